"""`quotegate events`: print what is on record, all of it or what concerns one peer, one kind, one reason; follow it."""

import argparse
import json
import time
from collections.abc import Iterator
from typing import Any, get_args

from authn.failure import AttestationFailure
from filters.reason import DropReason
from filters.suggestion import suggestion
from gateway.cli.client import ApiClient
from gateway.cli.exits import EXIT_OK
from gateway.cli.operate import client
from gateway.cli.output import complain, say
from gateway.errors import GatewayError
from gateway.events import model
from gateway.events.plain import escaped
from gateway.sessions.ends import SessionEnd

NAMES = ("peer", "source", "destination")
ADDRESSES = ("ip", "source_ip", "destination_ip")
WAIT_S = 10


def events(arguments: argparse.Namespace) -> int:
    """Print recorded events, and follow them."""
    _check_words(arguments)
    api = client(arguments)
    address = _address(api, arguments.peer) if arguments.peer is not None else ""
    for event in _read(api, _first(api, arguments), follow=arguments.follow):
        if concerns(event, arguments, address):
            say(json.dumps(event) if arguments.json else event_line(event))
    return EXIT_OK


def concerns(event: dict[str, Any], arguments: argparse.Namespace, address: str) -> bool:
    """Tell whether an event is one of those that were asked for; `address` is the peer's."""
    facts = event["unmapped"]
    if arguments.kind is not None and event["metadata"]["event_code"] != arguments.kind:
        return False
    if arguments.reason is not None and facts.get("reason") != arguments.reason:
        return False
    if arguments.peer is None:
        return True
    by_name = arguments.peer in [facts.get(name) for name in NAMES]
    return by_name or address in [facts.get(name) for name in ADDRESSES]


def event_line(event: dict[str, Any]) -> str:
    """Write an event as one line."""
    clock = time.strftime("%H:%M:%S", time.localtime(event["time"] / 1000))
    message = escaped(event["message"])
    return f"{event['metadata']['sequence']:>6} {clock}.{event['time'] % 1000:03d} {message}"


def _check_words(arguments: argparse.Namespace) -> None:
    """Refuse a misspelt kind: nothing would ever come. Reasons may be others than these. Raises GatewayError."""
    if arguments.kind is not None and arguments.kind not in (kinds := known_kinds()):
        expected = f"expected an event of docs/events.md, got {arguments.kind!r}"
        raise GatewayError("unknown-event", f"--kind: {expected}{suggestion(arguments.kind, kinds)}")
    reasons: set[str] = {*DropReason, *AttestationFailure, *SessionEnd}
    reason = arguments.reason
    if reason is not None and reason not in reasons and (meant := suggestion(reason, reasons)):
        complain(f"--reason: none of those that end or drop anything, got {reason!r}{meant}")


def known_kinds() -> list[str]:
    """Return the names of all kinds of events."""
    from gateway.events.ocsf import event_code  # not needed to print events

    return [event_code(one.__new__(one)) for one in get_args(model.Event)]


def _first(api: ApiClient, arguments: argparse.Namespace) -> int:
    """Return the number after which to begin."""
    if arguments.last is None:
        return int(arguments.after)
    if arguments.last < 0:
        raise GatewayError("bad-count", f"--last: expected 0 or more, got {arguments.last}")
    newest = int(api.get("/v1/status")["audit"]["sequence"])
    return max(int(arguments.after), newest - int(arguments.last))


def _address(api: ApiClient, name: str) -> str:
    """Find a peer's address: dropped packets have no name. Raises GatewayError `unknown-peer`."""
    known = {one["name"]: str(one["ip"]) for one in api.get("/v1/peers")["peers"]}
    if name not in known:
        raise GatewayError("unknown-peer", f"there is no peer {name!r}; known are {', '.join(known)}")
    return known[name]


def _read(api: ApiClient, after: int, *, follow: bool) -> Iterator[dict[str, Any]]:
    while True:
        found = api.get(f"/v1/events?after={after}&wait={WAIT_S if follow else 0}")["events"]
        yield from found
        if found:
            after = found[-1]["metadata"]["sequence"]
        elif not follow:
            return
