"""What others can have recorded at will is bounded, and counted beyond its bound."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import Mock

import pytest

from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.messages import DeliveryQuery
from authn.portmap import PortEntry
from gateway.audit.allowance import Allowance
from gateway.audit.recorder import Recorder
from gateway.audit.spool import AuditSpool
from gateway.control import server as server_module
from gateway.control.server import ControlServer
from gateway.daemon.deliveries import Deliveries
from gateway.daemon.service import FINDINGS, FINDINGS_PER_S, Service
from gateway.events import model
from gateway.registry.registry import PeerRecord
from gateway.registry.states import PeerState

PLACE = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")


@dataclass
class Clock:
    at: float = 100.0

    def now(self) -> float:
        return self.at

    wall = now


@dataclass
class Recorded:
    events: list[model.Event] = field(default_factory=list)

    async def record(self, event: model.Event) -> None:
        self.events.append(event)


def test_who_used_up_its_own_share_is_counted_and_others_are_recorded() -> None:
    allowance = Allowance(3, 0.5)
    assert [allowance.permits("web", 0.0) for _ in range(5)] == [True] * 3 + [False] * 2
    assert allowance.permits("db", 0.0)
    assert allowance.permits("web", 2.0)
    assert not allowance.permits("web", 2.0)
    assert allowance.take_counts() == {"web": 3}
    assert allowance.take_counts() == {}


def test_rejects_a_record_for_each_delivery_question() -> None:
    """A session that is over can be asked about as often as messages are taken."""
    clock, recorded, web = Clock(), Recorded(), PeerRecord("web", PLACE, link=Mock())
    registry, recorder, inspectors = (
        SimpleNamespace(by_name=lambda _: None),
        cast(Any, recorded),
        cast(Any, None),
    )

    async def story() -> Deliveries:
        deliveries = Deliveries(cast(Any, registry), recorder, inspectors, clock)
        deliveries.remember(cast(Any, SimpleNamespace(session_id="s", source="web", destination="db")))
        for number in range(2000):
            clock.at = 100 + number / 500
            await deliveries.ask(web, DeliveryQuery(number, "s", 1, 1))
        return deliveries

    deliveries = asyncio.run(story())
    assert 50 <= len(recorded.events) <= 60
    assert cast(Any, web.link).send.call_count == 2000
    assert deliveries.take_unrecorded() == {"web": 2000 - len(recorded.events)}


def recording(path: Path, story: Callable[[Recorder, Clock], Awaitable[None] | None]) -> list[dict[str, Any]]:
    """Run a story before a recorder; return what is on record then."""

    async def run() -> list[dict[str, Any]]:
        spool, clock = AuditSpool(path), Clock()
        recorder = Recorder(spool, clock, "lab/gateway", lambda: "rev")
        under_way = story(recorder, clock)
        if under_way is not None:
            await under_way
        recorder.note_counts()
        await recorder.flush()
        spool.close()
        return spool.read(0)

    return asyncio.run(run())


def test_rejects_a_record_for_each_refusal_that_a_peer_can_cause(tmp_path: Path) -> None:
    def story(recorder: Recorder, clock: Clock) -> None:
        for _ in range(600):
            clock.at += 1
            recorder.note_within(model.AttestationFailed("web", "10.0.0.2", "r", "d", False), "web")
        recorder.note_within(model.AttestationFailed("db", "10.0.0.3", "r", "d", False), "db")
        recorder.note_within(model.EnrollmentChanged("web", "10.0.0.2", "pending", "", ""), "web")

    records = recording(tmp_path / "a.db", story)
    by_code = [one["metadata"]["event_code"] for one in records]
    singly = sum(one["unmapped"].get("peer") == "web" for one in records) - 1
    assert 300 <= singly <= 322
    assert by_code.count("enrollment-changed") == 1
    (counted,) = (one["unmapped"] for one in records if one["metadata"]["event_code"] == "events-counted")
    assert (counted["what"], counted["count"]) == ("attestation-failed of web", 600 - singly)


def server(recorder: Recorder) -> ControlServer:
    intro: Any = SimpleNamespace(store=SimpleNamespace(identity=lambda _: None), clock=Clock())
    anyone: Any = Mock()
    return ControlServer(intro, anyone, anyone, recorder, anyone, frozenset(), anyone, cast(Any, anyone))


def test_rejects_to_hide_a_copied_tpm_behind_cheap_refusals(tmp_path: Path) -> None:
    def story(recorder: Recorder, _: Clock) -> None:
        refusing, web = server(recorder), PeerRecord("web", PLACE)
        for failure in [AttestationFailure.MALFORMED_MESSAGE] * 300 + [AttestationFailure.TPM_CLONE]:
            refusing._refuse(web, Mock(), AttestationError(failure, "said"))

    records = recording(tmp_path / "a.db", story)
    assert sum(one["unmapped"].get("reason") == "malformed-message" for one in records) == 200
    assert sum(one["unmapped"].get("reason") == "tpm-clone" for one in records) == 1
    assert records[-1]["unmapped"]["what"] == "attestation-failed of web: malformed-message"


@pytest.mark.parametrize(("pinned", "on_record"), [(True, 300), (False, 200)])
def test_rejects_to_pin_a_tpm_without_a_record_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pinned: bool, on_record: int
) -> None:
    async def enrolled(*_: object) -> tuple[str, bool]:
        return "pending", pinned

    monkeypatch.setattr(server_module, "run_enrollment", enrolled)

    async def story(recorder: Recorder, _: Clock) -> None:
        enrolling, nothing = server(recorder), cast(Any, None)
        for _number in range(300):
            await enrolling._enroll(PeerRecord("web", PLACE), nothing, nothing)

    records = recording(tmp_path / "a.db", story)
    assert sum(one["metadata"]["event_code"] == "enrollment-changed" for one in records) == on_record


def found(source: str, reason: str) -> model.ContentFound:
    return model.ContentFound(
        source, 1, "10.0.0.3", 2, 17, "r", "dns", "to-server", reason, "c", "d", "", 0, "", cuts=False
    )


def test_rejects_a_record_for_each_datagram_that_an_inspector_finds_something_in() -> None:
    noted: list[model.Event] = []
    clock, peer = Clock(), PeerRecord("web", PLACE)
    by_ip: dict[IPv4Address, PeerRecord] = {PLACE.ip: peer}
    service: Any = SimpleNamespace(
        clock=clock,
        _findings=Allowance(FINDINGS, FINDINGS_PER_S),
        registry=SimpleNamespace(by_ip=by_ip.get),
        recorder=SimpleNamespace(note=noted.append),
    )
    for number in range(3000):
        clock.at = 100 + number / 100
        Service._reported(service, found("10.0.0.2", "secret-found"))
    assert 200 <= len(noted) <= 216
    kept = len(noted)
    Service._reported(service, found("10.0.0.2", "malware"))
    Service._reported(service, model.MaterialTaken((), ()))
    assert len(noted) == kept + 2
    for number in range(300):  # addresses that nobody has share one bucket
        Service._reported(service, found(f"203.0.113.{number % 250}", "malware"))
    assert 200 <= len(noted) - kept - 2 <= 201
    counts = service._findings.take_counts()
    assert counts["secret-found in what web sent"] == 3000 - kept
    assert counts["malware in what nobody known sent"] == 300 - (len(noted) - kept - 2)


def test_rejects_a_record_for_each_handshake_that_is_begun(tmp_path: Path) -> None:
    def story(recorder: Recorder, _clock: Clock) -> None:
        service, peer = SimpleNamespace(recorder=recorder), PeerRecord("web", PLACE)
        for number in range(1000):
            states = PeerState.ENROLLED, PeerState.ATTESTING
            before, peer.state = states if number % 2 else states[::-1]
            Service._state_changed(cast(Any, service), peer, before, "")
        for _ in range(60):  # trust that comes and goes is always on record
            peer.state = PeerState.TRUSTED
            Service._state_changed(cast(Any, service), peer, PeerState.ATTESTING, "")

    records = recording(tmp_path / "a.db", story)
    changes = [one["unmapped"] for one in records if one["metadata"]["event_code"] == "peer-state-changed"]
    assert sum(one["after"] == "trusted" for one in changes) == 60
    assert 200 <= len(changes) - 60 <= 201
    assert records[-1]["unmapped"]["count"] == 1000 - (len(changes) - 60)
