"""Answer the control API. Each handler returns a JSON object or raises an error with code and message."""

import asyncio
from collections import Counter
from functools import partial
from typing import Any

from filters.reason import DropReason
from gateway.api import reading
from gateway.api.arguments import MAX_SEQUENCE, find_peer, seconds, sha256_of, text_of, whole_number
from gateway.api.routes import Call, Permission, route
from gateway.daemon.service import Service
from gateway.errors import GatewayError
from gateway.evidence.keeper import Kept
from gateway.registry.registry import PeerRecord
from gateway.registry.states import PeerState

READ, ADMINISTER = Permission.READ, Permission.ADMINISTER
MOST_EVENTS, LONGEST_WAIT_S = 1000, 30.0


@route("GET", "/v1/health", READ, waits=True, when_full=True)
async def health(call: Call) -> dict[str, Any]:
    """Tell that the service answers, and that netd and tpmd do."""
    await asyncio.gather(call.service.netd.ping(), call.service.tpm.ping())
    return {"healthy": True}


@route("GET", "/v1/status", READ, when_full=True)
async def status(call: Call) -> dict[str, Any]:
    """Sum up the gateway."""
    service = call.service
    states = [peer.state for peer in service.registry]
    (sequence, head), room = service.spool.head, await reading.read(service.spool.room)
    drops = Counter(await service.netd.counters()) + service.inspectors.found
    return {
        "gateway": service.setup.gateway_id,
        "uptime_s": round(service.clock.now() - service.started_at, 1),
        "epoch": service.epoch.hex(),
        "authority": str(service.authority.state()),
        "policy_revision": service.policy.policy.revision,
        "policy_closed": service.changer.closed,
        "beacon_interval_ms": service.setup.beacon_interval_ms,
        "peers": {str(state): states.count(state) for state in PeerState if state in states},
        "sessions": len(service.broker.book),
        "audit": {"sequence": sequence, "head": head.hex(), "room": room, "full": service.record.full},
        "drops": {str(reason): count for reason, count in drops.items() if count},
        "inspectors": service.inspectors.ready,
        "inspection": service.inspectors.describe(),
    }


def peer_json(service: Service, peer: PeerRecord) -> dict[str, Any]:
    """Describe one peer."""
    age = None if peer.last_quote_at is None else round((service.clock.now() - peer.last_quote_at) * 1000)
    identity = service.store.identity(peer.name)
    return {
        "name": peer.name,
        "state": str(peer.state),
        "reason": peer.reason,
        "detail": peer.detail,
        "ip": str(peer.ip),
        "mac": peer.place.mac,
        "last_quote_age_ms": age,
        "late_answers": peer.link.tracker.late if peer.link else 0,
        "restarts": len(service.store.restarts(peer.name)),
        "session_id": peer.session_id,
        "pcrs": {str(index): value.hex() for index, value in sorted(peer.pcr_values.items())},
        "reset_count": peer.counters.reset_count if peer.counters else None,
        "ek_fingerprint": identity.ek_fingerprint if identity else None,
        "enrollment": "none" if identity is None else ("approved" if identity.approved else "pending"),
    }


@route("GET", "/v1/peers", READ)
async def peers(call: Call) -> dict[str, Any]:
    """List all peers."""
    found = []
    for peer in call.service.registry:
        found.append(peer_json(call.service, peer))
        await asyncio.sleep(0)  # there may be hundreds, and the database is read for each
    return {"peers": found}


@route("GET", "/v1/peers/{name}/evidence", READ, "which")
async def peer_evidence(call: Call) -> dict[str, Any]:
    """Return the evidence of a peer's last handshake that was accepted, or refused."""
    peer, which = find_peer(call.service, call.params["name"]), call.params.get("which", Kept.ACCEPTED)
    if which not in list(Kept):
        raise GatewayError("malformed-request", f"`which` must be accepted or refused, got {which!r}")
    return await reading.read(partial(call.service.evidence.load, peer.name, Kept(which)))


@route("GET", "/v1/sessions", READ)
async def sessions(call: Call) -> dict[str, Any]:
    """List the live sessions."""
    now = call.service.clock.now()
    found = [
        {
            "session_id": session.session_id,
            "from": session.source,
            "to": session.destination,
            "service": str(session.service),
            "rule": session.rule,
            "age_ms": round((now - session.granted_at) * 1000),
            "expires_in_ms": round((session.expires_at - now) * 1000),
        }
        for session in call.service.broker.book
    ]
    return {"sessions": found}


@route("DELETE", "/v1/sessions/{session_id}", ADMINISTER)
async def cut_session(call: Call) -> dict[str, Any]:
    """Cut one session."""
    session = call.service.broker.book.get(call.params["session_id"])
    if session is None:
        raise GatewayError("unknown-session", f"there is no session {call.params['session_id']}")
    await call.service.broker.close([session], DropReason.ADMIN_CUT)
    return {"cut": session.session_id}


@route("GET", "/v1/events", READ, "after", "limit", "wait", waits=True, when_full=True)
async def events(call: Call) -> dict[str, Any]:
    """Read recorded events after a number; with `wait`, wait up to that many seconds for the first."""
    after = whole_number(call.params, "after", 0, 0, MAX_SEQUENCE)
    limit = whole_number(call.params, "limit", MOST_EVENTS, 1, MOST_EVENTS)
    wait = seconds(call.params, "wait", LONGEST_WAIT_S)
    spool = call.service.spool
    if wait and spool.head[0] <= after:
        try:
            async with asyncio.timeout(wait):
                await spool.wait_beyond(after)
        except TimeoutError:
            return {"events": []}
    return {"events": await reading.read(partial(spool.read, after, limit))}


@route("POST", "/v1/peers/{name}/enroll", ADMINISTER, "ek")
async def enroll(call: Call) -> dict[str, Any]:
    """Approve a TPM beforehand by its EK certificate's fingerprint."""
    peer = find_peer(call.service, call.params["name"])
    call.service.store.preapprove(peer.name, sha256_of(call.body, "ek", "sha256:"))
    return {"peer": peer.name, "enrollment": "pre-approved"}


@route("POST", "/v1/peers/{name}/approve", ADMINISTER)
async def approve(call: Call) -> dict[str, Any]:
    """Approve a TPM that has asked to be enrolled."""
    peer = find_peer(call.service, call.params["name"])
    await call.service.approve(peer, call.actor)
    return peer_json(call.service, peer)


@route("POST", "/v1/peers/{name}/forget", ADMINISTER)
async def forget(call: Call) -> dict[str, Any]:
    """Unpin a peer's TPM, certificate and place: another may be enrolled."""
    peer = find_peer(call.service, call.params["name"])
    await call.service.trust.forget(peer, call.actor)
    return peer_json(call.service, peer)


@route("POST", "/v1/peers/{name}/restart", ADMINISTER)
async def restart(call: Call) -> dict[str, Any]:
    """Restart a peer's machine."""
    peer = find_peer(call.service, call.params["name"])
    await call.service.broker.close_peer(peer, DropReason.ADMIN_CUT)
    await call.service.recovery.restart(peer, f"restarted by {call.actor}")
    return peer_json(call.service, peer)


@route("POST", "/v1/peers/{name}/quarantine", ADMINISTER)
async def quarantine(call: Call) -> dict[str, Any]:
    """Keep a peer out until it is released."""
    peer = find_peer(call.service, call.params["name"])
    await call.service.recovery.quarantine(peer, f"quarantined by {call.actor}")
    await call.service.broker.close_peer(peer, DropReason.PEER_QUARANTINED)
    return peer_json(call.service, peer)


@route("POST", "/v1/peers/{name}/release", ADMINISTER)
async def release(call: Call) -> dict[str, Any]:
    """End a quarantine; the peer restarts and attests anew."""
    peer = find_peer(call.service, call.params["name"])
    if peer.state is not PeerState.QUARANTINED:
        raise GatewayError("not-quarantined", f"{peer.name} is {peer.state}, not quarantined")
    await call.service.recovery.release(peer)
    return peer_json(call.service, peer)


@route("GET", "/v1/authority", READ)
async def authority(call: Call) -> dict[str, Any]:
    """Show what authority is in force."""
    keeper = call.service.authority
    return {
        "state": str(keeper.state()),
        "sequence": keeper.gate.sequence,
        "not_after": keeper.gate.not_after,
    }


@route("POST", "/v1/authority/grant", ADMINISTER, "grant")
async def grant_authority(call: Call) -> dict[str, Any]:
    """Take up an administrator-signed grant."""
    await call.service.authority.grant(text_of(call.body, "grant").encode(), call.actor)
    return await authority(call)


@route("POST", "/v1/authority/revoke", ADMINISTER)
async def revoke_authority(call: Call) -> dict[str, Any]:
    """Withdraw authority: all guest-to-guest traffic ends."""
    await call.service.authority.revoke(call.actor)
    return await authority(call)
