"""The control API's part about policy: check, plan, apply, confirm, roll back, replay, explain."""

import asyncio
import time
from dataclasses import replace
from functools import partial
from typing import Any

from filters.errors import NetdError
from filters.flow import Protocol, Service
from filters.policy import explain
from filters.policy.evaluator import Facts, Request, evaluate
from filters.policy.model import Policy
from filters.policy.services import parse_service
from gateway.api import reading
from gateway.api.arguments import MAX_SEQUENCE, MAX_SHOWN, address_of, find_peer, port_of, text_of
from gateway.api.routes import Call, Permission, route
from gateway.errors import GatewayError
from gateway.policy.holder import check_text
from gateway.policy.plan import make_plan
from gateway.policy.replay import collect_flows, read_flow, replay_flows
from gateway.policy.revisions import Revision

READ, ADMINISTER = Permission.READ, Permission.ADMINISTER
MAX_REPLAYED = 500_000
TUPLE = ("source_ip", "destination_ip", "protocol", "destination_port")
FLOW_NAMES = ("from", "to", "service", *TUPLE, "event")


@route("GET", "/v1/policy", READ, "revision")
async def show_policy(call: Call) -> dict[str, Any]:
    """Return the text of the policy in force, or of a revision."""
    revisions, wanted = call.service.changer.revisions, call.params.get("revision")
    found = revisions.find(wanted) if wanted else revisions.current()
    if found is None:
        raise GatewayError("unknown-revision", "no policy is in force yet")
    return {**_revision_json(found), "text": revisions.text(found.number)}


@route("GET", "/v1/policy/history", READ)
async def policy_history(call: Call) -> dict[str, Any]:
    """List what was in force, the newest first, and what waits to be confirmed."""
    changer = call.service.changer
    pending = changer.confirmation.pending
    left = None if pending is None else round(pending.deadline - call.service.clock.now(), 1)
    return {
        "revisions": [_revision_json(one) for one in changer.revisions.history()],
        "confirm_within_s": left,
        "returns_to": pending.fallback if pending else None,
    }


def _revision_json(one: Revision) -> dict[str, Any]:
    return {
        "number": one.number,
        "revision": one.revision,
        "at": one.at,
        "actor": one.actor,
        "outcome": one.outcome,
    }


@route("POST", "/v1/policy/check", ADMINISTER, "text", "file")
async def check_policy(call: Call) -> dict[str, Any]:
    """Check a draft as applying it would, and ask the kernel whether it would take it; changes nothing."""
    service = call.service
    policy, warnings = await asyncio.to_thread(
        check_text, text_of(call.body, "text"), text_of(call.body, "file")
    )
    warnings += await asyncio.to_thread(service.policy.check_new, policy)
    compiled = await asyncio.to_thread(service.policy.compile, policy)
    try:
        await service.netd.check_policy(compiled)
    except NetdError as error:
        return {"warnings": warnings, "kernel": error.message, "ok": False}
    return {"warnings": warnings, "kernel": "accepted", "ok": True}


@route("POST", "/v1/policy/plan", ADMINISTER, "text", "file")
async def plan_policy(call: Call) -> dict[str, Any]:
    """Say what a draft would change; changes nothing."""
    service, before = call.service, call.service.policy.policy
    draft, warnings = await asyncio.to_thread(
        check_text, text_of(call.body, "text"), text_of(call.body, "file")
    )
    warnings += await asyncio.to_thread(service.policy.check_new, draft)
    live = tuple(service.broker.book)
    known = ((peer.name, service.store.identity(peer.name)) for peer in service.registry)
    enrolled = {name: identity.ek_fingerprint for name, identity in known if identity}

    def plan() -> dict[str, object]:
        compile_ = service.policy.compile
        return make_plan(before, draft, compile_(before), compile_(draft), live, enrolled).to_json()

    found = await asyncio.to_thread(plan)
    return {"running": before.revision, "revision": draft.revision, "warnings": warnings, **found}


@route("POST", "/v1/policy/apply", ADMINISTER, "text", "file", "confirm_s")
async def apply_policy(call: Call) -> dict[str, Any]:
    """Put another policy in force; with `confirm_s` it returns by itself unless confirmed."""
    within = call.body.get("confirm_s")
    if within is not None and type(within) not in (int, float):
        raise GatewayError("malformed-request", "`confirm_s` must be a number of seconds")
    change = await call.service.changer.apply(
        text_of(call.body, "text"), text_of(call.body, "file"), call.actor, within
    )
    return {
        "number": change.number,
        "revision": change.revision,
        "sessions_cut": change.sessions_cut,
        "warnings": change.warnings,
        "confirm_within_s": within,
    }


@route("POST", "/v1/policy/confirm", ADMINISTER)
async def confirm_policy(call: Call) -> dict[str, Any]:
    """Keep the policy that is on probation."""
    await call.service.changer.confirm(call.actor)
    return {"revision": call.service.policy.policy.revision}


@route("POST", "/v1/policy/rollback", ADMINISTER, "revision")
async def rollback_policy(call: Call) -> dict[str, Any]:
    """Put an earlier policy back in force."""
    wanted = text_of(call.body, "revision") if "revision" in call.body else None
    change = await call.service.changer.rollback(wanted, call.actor)
    return {"number": change.number, "revision": change.revision, "sessions_cut": change.sessions_cut}


@route("POST", "/v1/policy/replay", ADMINISTER, "text", "file", "hours")
async def replay_policy(call: Call) -> dict[str, Any]:
    """Run the recorded flows of the last hours against a draft; changes nothing."""
    service, before = call.service, call.service.policy.policy
    hours = call.body.get("hours")
    if isinstance(hours, bool) or not isinstance(hours, int | float) or not 0 < hours <= 24 * 366:
        raise GatewayError(
            "malformed-request", f"`hours` must be more than 0 and at most 8784, got {hours!r}"
        )
    draft, _ = await asyncio.to_thread(check_text, text_of(call.body, "text"), text_of(call.body, "file"))
    since_ms = int((time.time() - hours * 3600) * 1000)

    def replay() -> dict[str, Any]:
        records = service.spool.read_since(since_ms, MAX_REPLAYED + 1)
        flows = collect_flows(records[:MAX_REPLAYED], before)
        changed = replay_flows(flows, before, draft)
        return {
            "records": min(len(records), MAX_REPLAYED),
            "complete": len(records) <= MAX_REPLAYED,
            "flows": len(flows),
            "changed": [one.to_json() for one in changed],
        }

    await service.recorder.flush()
    return await asyncio.to_thread(replay)


@route("POST", "/v1/explain", READ, *FLOW_NAMES)
async def explain_flow(call: Call) -> dict[str, Any]:
    """Explain what would happen to a flow, and why: by names, by addresses, or one that was recorded."""
    request = await _wanted(call)
    service, now = call.service, call.service.clock.now()
    open_now = any(
        (one.source, one.destination, one.service) == (request.source, request.destination, request.service)
        for one in service.broker.book
    )
    inputs = {
        peer.name: {
            "state": str(peer.state),
            "reason": peer.reason,
            "last_quote_age_ms": None
            if peer.last_quote_at is None
            else round((now - peer.last_quote_at) * 1000),
        }
        for peer in (find_peer(service, request.source), find_peer(service, request.destination))
    }
    policy, facts = service.policy.policy, replace(service.facts(), session_open=open_now)
    decided = await reading.read(partial(_decide, policy, request, facts))
    return {
        "from": request.source,
        "to": request.destination,
        "service": str(request.service),
        **decided,
        "trust": inputs,
    }


def _decide(policy: Policy, request: Request, facts: Facts) -> dict[str, Any]:
    """Decide about a flow: with many rules this takes longer than a peer may wait for the loop."""
    decision = explain.to_json(evaluate(policy, request, facts))
    return {**decision, "rules": [one.to_json() for one in explain.try_rules(policy, request)]}


async def _wanted(call: Call) -> Request:
    if "event" in call.body:
        return await _recorded(call)
    if "source_ip" in call.body:
        return _tuple(call)
    try:
        service = parse_service(text_of(call.body, "service"))
    except ValueError as error:
        raise GatewayError("bad-service", str(error)) from error
    source, destination = (find_peer(call.service, text_of(call.body, end)).name for end in ("from", "to"))
    return Request(source, destination, service)


def _tuple(call: Call) -> Request:
    word = text_of(call.body, "protocol")
    protocol = Protocol.__members__.get(word.upper())
    if protocol is None:
        known = ", ".join(name.lower() for name in Protocol.__members__)
        raise GatewayError(
            "malformed-request", f"`protocol`: expected one of {known}, got {word[:MAX_SHOWN]!r}"
        )
    port = 0 if protocol is Protocol.ICMP else port_of(call.body, "destination_port")
    names = []
    for ip in [address_of(call.body, f"{end}_ip") for end in ("source", "destination")]:
        peer = call.service.registry.by_ip(ip)
        if peer is None:
            raise GatewayError("unknown-peer", f"no peer has the address {ip}; see: quotegate peers")
        names.append(peer.name)
    return Request(names[0], names[1], Service(protocol, port))


async def _recorded(call: Call) -> Request:
    number = call.body["event"]
    if type(number) is not int or not 1 <= number <= MAX_SEQUENCE:
        raise GatewayError("malformed-request", f"`event` must be an event's number, got {number!r}")
    found = await reading.read(partial(call.service.spool.read, number - 1, 1))
    if not found or found[0]["metadata"]["sequence"] != number:
        raise GatewayError("unknown-event", f"no event has the number {number}; see: quotegate events")
    by_ip = {peer.ip: peer.name for peer in call.service.registry}
    request = read_flow(found[0], by_ip)
    if request is None:
        raise GatewayError(
            "no-flow",
            f"event {number} ({found[0]['metadata']['event_code']}) is not about a flow between peers",
        )
    return request
