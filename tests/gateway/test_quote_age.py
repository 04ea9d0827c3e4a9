"""How long a quote is worth trust: as long as the policy says, and never longer than two beacon intervals."""

import asyncio
from ipaddress import IPv4Address
from types import SimpleNamespace
from typing import Any
from unittest.mock import AsyncMock, Mock

import pytest

from authn.portmap import PortEntry
from filters.errors import PolicyError
from filters.policy.parser import parse_policy
from gateway.control.link import PeerLink
from gateway.policy.holder import PolicyHolder
from gateway.registry.registry import Registry
from gateway.registry.states import PeerState
from gateway.trust.keeper import TrustKeeper

T = 0.2
PLACE = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")


def policy(age: str) -> str:
    return (
        f'schema = 1\n[profile.lab]\npcrs = {{ sha256 = {{ 4 = "ref:code" }} }}\n{age}\n'
        '[peer.web]\nmatch = { port = "p1", mac = "52:54:00:00:00:01", ip = "10.0.0.2" }\nprofile = "lab"\n'
    )


class Scene:
    """A trusted peer under a policy."""

    def __init__(self, age: str) -> None:
        self.holder = PolicyHolder("eth0", IPv4Address("10.0.0.1"), 7443, int(T * 1000), [{"code"}], [PLACE])
        self.holder.policy = parse_policy(policy(age))
        self.now = 100.0
        self.registry, self.kernel, self.store = Registry((PLACE,), Mock()), AsyncMock(), Mock()
        clock: Any = SimpleNamespace(now=lambda: self.now, wall=lambda: 1.0)
        self.keeper = TrustKeeper(
            self.registry, self.kernel, self.store, Mock(), clock, T, self.holder.quote_age, AsyncMock(), Mock(),
        )  # fmt: skip
        self.peer = next(iter(self.registry))
        self.link = Mock(spec=PeerLink, tracker=Mock(late=0), session=Mock(pcr_values={}))
        self.peer.state, self.peer.link, self.peer.last_quote_at = PeerState.TRUSTED, self.link, self.now


@pytest.mark.parametrize(
    ("age", "worth"),
    [("", 2 * T), ('max_quote_age = "350ms"', 0.35), ('max_quote_age = "3s"', 2 * T)],
)
def test_trust_ends_with_the_age_that_the_policy_allows(age: str, worth: float) -> None:
    scene = Scene(age)
    scene.link.tracker.judge.return_value = Mock(asked_at=100.1)
    asyncio.run(scene.keeper.answer(scene.peer, scene.link, Mock()))
    assert scene.kernel.trust.await_args.args == (PLACE.ip, pytest.approx(100.1 + worth))
    scene.store.high_water.return_value = None
    asyncio.run(scene.keeper.admit(scene.peer, scene.link, 100.2))
    assert scene.kernel.trust.await_args.args == (PLACE.ip, pytest.approx(100.2 + worth))


@pytest.mark.parametrize(("age", "worth"), [("", 2 * T), ('max_quote_age = "350ms"', 0.35)])
def test_a_peer_is_stale_once_its_quote_is_too_old(age: str, worth: float) -> None:
    scene = Scene(age)
    for after, state in ((worth - 0.01, PeerState.TRUSTED), (worth + 0.01, PeerState.STALE)):
        scene.now = 100.0 + after
        asyncio.run(scene.keeper.watch_silence(scene.peer))
        assert scene.peer.state is state


def test_rejects_an_age_that_honest_peers_exceed() -> None:
    holder = Scene("").holder
    holder.compile(parse_policy(policy('max_quote_age = "350ms"')))
    with pytest.raises(PolicyError, match=r"max_quote_age. is 349 ms; .* every 200 ms, .* at least 350 ms"):
        holder.compile(parse_policy(policy('max_quote_age = "349ms"')))
