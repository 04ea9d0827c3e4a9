"""Which sessions can be asked about: each requester's own, however many others have."""

import asyncio
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

from authn.messages import DeliveryQuery
from authn.portmap import PortEntry
from gateway.daemon.deliveries import REMEMBERED, Deliveries
from gateway.registry.registry import PeerRecord
from gateway.sessions.book import MAX_SESSIONS_PER_PEER
from tests.gateway.test_broker import PLACES


def session(name: str, source: str) -> Any:
    return SimpleNamespace(session_id=name, source=source, destination="db")


def asked(deliveries: Deliveries, place: PortEntry, name: str) -> bool:
    """Tell whether the target is asked; the peer gets an answer all the same."""
    peer = PeerRecord(place.peer, place, link=Mock())
    asyncio.run(deliveries.ask(peer, DeliveryQuery(7, name, 1, 1)))
    (report,) = peer.link.send.call_args.args  # type: ignore[union-attr]
    assert (report.query_id, report.session_id, report.complete) == (7, name, False)
    return bool(report.state == "no answer")


def deliveries() -> Deliveries:
    anyone: Any = SimpleNamespace(by_name=lambda _: None, record=AsyncMock(), now=lambda: 1.0)
    return Deliveries(anyone, anyone, anyone, anyone)


def test_one_requesters_sessions_do_not_make_anothers_forgotten() -> None:
    """A thousand sessions of all peers were remembered: one that has many left none of the others'."""
    one = deliveries()
    one.remember(session("of web", "web"))
    for number in range(4 * REMEMBERED):
        one.remember(session(f"of db {number}", "db"))
    assert asked(one, PLACES[0], "of web")
    assert not asked(one, PLACES[1], "of web")  # which is none of its own
    assert not asked(one, PLACES[1], "of db 0")


def test_a_question_about_no_session_is_answered_too() -> None:
    """Who asked waited in vain, and heard that the gateway does not answer."""
    assert not asked(deliveries(), PLACES[0], "none")


def test_a_session_that_lives_is_never_forgotten() -> None:
    one = deliveries()
    for lease in range(3 * REMEMBERED):
        one.remember(session("long", "web"))  # renewed
        one.remember(session(f"short {lease}", "web"))
    assert asked(one, PLACES[0], "long")
    assert REMEMBERED > MAX_SESSIONS_PER_PEER
