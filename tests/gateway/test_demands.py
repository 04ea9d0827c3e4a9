"""Which sessions end when another policy is in force: those of peers that proved something else than is demanded now."""

import asyncio
from ipaddress import IPv4Address
from types import SimpleNamespace
from unittest.mock import AsyncMock, Mock

import pytest

from authn.portmap import PortEntry
from authn.profile import Profile
from gateway.control.link import PeerLink
from gateway.daemon.service import Service
from gateway.registry.registry import PeerRecord
from gateway.registry.states import PeerState

PLACE = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")
PROVED = Profile.of("guest", {4: "ref:code", 7: "ref:deployment"})
ENROLLED, OTHER = "sha256:" + "11" * 32, "sha256:" + "22" * 32


def demanded(profile: Profile, ek: str | None, known: bool = True) -> tuple[bool, PeerLink]:
    """Tell whether the peer has to prove itself anew."""
    link = PeerLink(Mock(), Mock(), Mock(), Mock(), Mock(), PROVED)
    peer = PeerRecord("web", PLACE, PeerState.TRUSTED, link=link)
    policy = SimpleNamespace(revision="2", peers={"web": SimpleNamespace(ek=ek)} if known else {})
    service = SimpleNamespace(
        policy=SimpleNamespace(policy=policy, profile=lambda _: profile),
        registry=[peer, PeerRecord("db", PLACE)],
        store=SimpleNamespace(identity=lambda _: SimpleNamespace(ek_fingerprint=ENROLLED)),
        trust=SimpleNamespace(demand_anew=AsyncMock()),
    )
    service._has_ek = lambda *words: Service._has_ek(service, *words)  # type: ignore[arg-type]
    asyncio.run(Service._demand_anew(service))  # type: ignore[arg-type]
    return service.trust.demand_anew.await_count == 1, link


@pytest.mark.parametrize(
    ("profile", "ek"),
    [
        (Profile.of("guest", {4: "ref:code", 7: "ref:other"}), None),
        (Profile.of("guest", {4: "ref:code", 7: "ref:deployment", 11: "ref:image"}), None),
        (PROVED, OTHER),
    ],
)
def test_other_demands_end_the_session(profile: Profile, ek: str | None) -> None:
    assert demanded(profile, ek)[0]


def test_a_policy_that_does_not_know_a_peer_ends_its_session() -> None:
    assert demanded(PROVED, None, known=False)[0]


@pytest.mark.parametrize("ek", [None, ENROLLED])
def test_the_same_demands_end_nothing_and_are_compared_once(ek: str | None) -> None:
    ended, link = demanded(PROVED, ek)
    assert not ended
    assert link.demanded_by == "2"
