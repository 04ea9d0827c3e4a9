"""Which refusals of a handshake tell of a copied TPM."""

from ipaddress import IPv4Address
from unittest.mock import Mock

import pytest

from authn.errors import AttestationError
from authn.failure import AttestationFailure as F
from authn.portmap import PortEntry
from gateway.control.handshaking import name_copy
from gateway.control.link import PeerLink
from gateway.registry.registry import PeerRecord
from gateway.registry.states import PeerState

PLACE = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")


def renamed(failure: F, state: PeerState, *, linked: bool = True) -> F:
    record = PeerRecord("web", PLACE, state, link=Mock(spec=PeerLink) if linked else None)
    return name_copy(AttestationError(failure, "said"), record).failure


@pytest.mark.parametrize("failure", [F.RESET_COUNT_REGRESSION, F.CLOCK_REGRESSION])
def test_rejects_a_copy_beside_a_session_that_lives(failure: F) -> None:
    assert renamed(failure, PeerState.TRUSTED) is F.TPM_CLONE


@pytest.mark.parametrize(
    ("failure", "state", "linked"),
    [
        (F.RESET_COUNT_REGRESSION, PeerState.RESTARTING, False),
        (F.RESET_COUNT_REGRESSION, PeerState.STALE, True),
        (F.CLOCK_REGRESSION, PeerState.TRUSTED, False),
        (F.PCR_MISMATCH, PeerState.TRUSTED, True),
    ],
)
def test_what_tells_of_no_copy_keeps_its_name(failure: F, state: PeerState, linked: bool) -> None:
    assert renamed(failure, state, linked=linked) is failure
