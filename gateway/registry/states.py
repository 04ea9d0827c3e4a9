"""The states of a peer and the only ways from one to the next. Pure."""

from enum import StrEnum

from gateway.errors import GatewayError


class PeerState(StrEnum):
    """What the gateway holds of a peer. Only `trusted` may communicate."""

    UNKNOWN = "unknown"
    ENROLLED = "enrolled"
    ATTESTING = "attesting"
    TRUSTED = "trusted"
    STALE = "stale"
    UNREACHABLE = "unreachable"
    FAILED = "failed"
    RESTARTING = "restarting"
    QUARANTINED = "quarantined"


class Trigger(StrEnum):
    """What happens to a peer."""

    APPROVED = "approved"
    HANDSHAKE_STARTED = "handshake-started"
    VERIFIED = "verified"
    HANDSHAKE_ENDED = "handshake-ended"
    WENT_SILENT = "went-silent"
    ANSWERED = "answered"
    DISCONNECTED = "disconnected"
    FAILED = "failed"
    RESTART_BEGUN = "restart-begun"
    QUARANTINED = "quarantined"
    RELEASED = "released"
    FORGOTTEN = "forgotten"


_S, _T = PeerState, Trigger
_KNOWN = (_S.ENROLLED, _S.ATTESTING, _S.TRUSTED, _S.STALE, _S.UNREACHABLE)

TRANSITIONS: dict[tuple[PeerState, Trigger], PeerState] = {
    (_S.UNKNOWN, _T.APPROVED): _S.ENROLLED,
    **{(state, _T.HANDSHAKE_STARTED): _S.ATTESTING for state in (_S.ENROLLED, _S.ATTESTING, _S.UNREACHABLE)},
    # a running session stays what it is until the new handshake has proved itself
    (_S.TRUSTED, _T.HANDSHAKE_STARTED): _S.TRUSTED,
    (_S.STALE, _T.HANDSHAKE_STARTED): _S.STALE,
    **{(state, _T.HANDSHAKE_STARTED): state for state in (_S.RESTARTING, _S.FAILED)},
    **{(state, _T.VERIFIED): _S.TRUSTED for state in (*_KNOWN, _S.RESTARTING, _S.FAILED)},
    **{(state, _T.HANDSHAKE_ENDED): state for state in PeerState},
    (_S.ATTESTING, _T.HANDSHAKE_ENDED): _S.ENROLLED,
    (_S.TRUSTED, _T.WENT_SILENT): _S.STALE,
    (_S.STALE, _T.ANSWERED): _S.TRUSTED,
    **{(state, _T.DISCONNECTED): _S.UNREACHABLE for state in (_S.TRUSTED, _S.STALE, _S.UNREACHABLE)},
    **{(state, _T.FAILED): _S.FAILED for state in (*_KNOWN, _S.FAILED, _S.RESTARTING)},
    **{(state, _T.RESTART_BEGUN): _S.RESTARTING for state in (*_KNOWN, _S.FAILED, _S.RESTARTING)},
    **{(state, _T.QUARANTINED): _S.QUARANTINED for state in PeerState},
    (_S.QUARANTINED, _T.RELEASED): _S.ENROLLED,
    # who it is, is open again; that it is kept out stays
    **{(state, _T.FORGOTTEN): _S.UNKNOWN for state in PeerState if state is not _S.QUARANTINED},
    (_S.QUARANTINED, _T.FORGOTTEN): _S.QUARANTINED,
}


def next_state(state: PeerState, trigger: Trigger) -> PeerState:
    """Return the state after `trigger`; raises GatewayError `illegal-transition` where there is no way."""
    try:
        return TRANSITIONS[state, trigger]
    except KeyError:
        raise GatewayError("illegal-transition", f"a peer that is {state} can't become {trigger}") from None
