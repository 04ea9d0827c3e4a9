"""The operator's everyday commands against a running gateway."""

import argparse
import json
from collections.abc import Iterator
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from filters.flow import Service
from filters.policy import explain
from filters.policy.evaluator import Request
from filters.policy.services import parse_service
from gateway.cli.client import TIMEOUT_S, WHOLE_RECORD_S, ApiClient, api_socket, in_path
from gateway.cli.command import of_lab
from gateway.cli.exits import EXIT_DENIED, EXIT_FOUND, EXIT_OK
from gateway.cli.output import say, show_json, table
from gateway.errors import GatewayError
from gateway.events.plain import escaped
from vmhost.names import Lab

PEER_COLUMNS = ("name", "state", "reason", "ip", "last_quote_age_ms", "restarts", "enrollment")
SESSION_COLUMNS = ("session_id", "from", "to", "service", "rule", "age_ms", "expires_in_ms")


def client(arguments: argparse.Namespace, timeout: float = TIMEOUT_S) -> ApiClient:
    """Return the client for the chosen gateway."""
    return ApiClient(api_socket(arguments.lab), timeout)


def status(arguments: argparse.Namespace) -> int:
    """Sum up the gateway."""
    answer = client(arguments).get("/v1/status")
    if arguments.json:
        show_json(answer)
        return EXIT_OK
    peers = ", ".join(f"{count} {state}" for state, count in answer["peers"].items())
    say(f"{answer['gateway']}: up {answer['uptime_s']} s, authority {answer['authority']}")
    say(f"peers: {peers}; sessions: {answer['sessions']}; audit records: {answer['audit']['sequence']}")
    for alarm in _alarms(answer, of_lab(arguments.lab)):
        say(f"ATTENTION: {alarm}")
    drops = ", ".join(f"{reason} {count}" for reason, count in answer["drops"].items())
    say(f"dropped packets: {drops or 'none'}")
    for one in answer.get("inspection", ()):
        files = f"your files: {', '.join(one['files']) or 'none'}"
        say(f"inspector: confined by {', '.join(one['confined']) or 'nothing'}; {files}")
        for problem in (*one["bad"], *one["notes"]):
            say(f"  {problem}")
    return EXIT_OK


def _alarms(answer: dict[str, Any], of: str) -> Iterator[str]:
    """Say why nothing, or nothing that is inspected, can pass, and what to do."""
    if answer["audit"]["full"]:
        yield f"the audit record has no room, so nobody is trusted; quotegate audit export FILE{of}, then audit prune FILE{of}"
    if answer["policy_closed"]:
        why = escaped(answer["policy_closed"])
        yield f"the stored policy is not in force, so nothing passes: {why}; quotegate policy apply FILE{of}"
    if answer["authority"] != "valid":
        yield f"authority is {answer['authority']}, so no guest talks to another; quotegate authority grant --for 8h{of}"
    if not answer["inspectors"]:
        yield "no inspector is there, so nothing of rules with `inspect` passes; its log says why"


def peers(arguments: argparse.Namespace) -> int:
    """List the peers."""
    answer = client(arguments).get("/v1/peers")["peers"]
    show_json(answer) if arguments.json else say(table(answer, PEER_COLUMNS))
    return EXIT_OK


def sessions(arguments: argparse.Namespace) -> int:
    """List the sessions."""
    answer = client(arguments).get("/v1/sessions")["sessions"]
    show_json(answer) if arguments.json else say(table(answer, SESSION_COLUMNS))
    return EXIT_OK


def cut_session(arguments: argparse.Namespace) -> int:
    """Cut one session; raises ApiError."""
    answer = client(arguments).delete(f"/v1/sessions/{in_path(arguments.session)}")
    show_json(answer) if arguments.json else say(f"session {answer['cut']} is cut")
    return EXIT_OK


def explain_flow(arguments: argparse.Namespace) -> int:
    """Explain a flow; exit 3 when it would be denied."""
    answer = client(arguments).post("/v1/explain", **_flow(arguments))
    if arguments.json:
        show_json(answer)
    else:
        request = Request(answer["from"], answer["to"], _service(answer["service"]))
        say(explain.to_text(request, answer))
    return EXIT_OK if answer["verdict"] == "allow" else EXIT_DENIED


def _flow(arguments: argparse.Namespace) -> dict[str, Any]:
    """Read what to explain: names, a tuple of addresses, or an event's number."""
    words: list[str] = arguments.flow
    if arguments.event is not None and not words:
        return {"event": arguments.event}
    if arguments.event is None and len(words) == 3:
        source, destination, service = words
        if not _is_address(source):
            return {"from": source, "to": destination, "service": str(_service(service))}
        flow = _tuple(source, destination, service)
        if flow is not None:
            return flow
    raise GatewayError(
        "bad-flow",
        "expected FROM TO SERVICE such as: web db tcp/5432; or ADDRESS[:PORT] ADDRESS:PORT tcp; or --event NUMBER",
    )


def _tuple(source: str, destination: str, service: str) -> dict[str, Any] | None:
    """Read addresses, and the port once or twice the same; None when they are not that."""
    (source, _, source_port), (destination, _, port) = source.partition(":"), destination.partition(":")
    protocol, _, named = service.partition("/")
    ends = {"source_ip": source, "destination_ip": destination, "protocol": protocol}
    if protocol == "icmp":
        return ends
    if (port and named and port != named) or not all(map(_is_port, (source_port or "1", port or named))):
        return None
    return {**ends, "destination_port": int(port or named)}


def _is_port(text: str) -> bool:
    return text.isdecimal() and text.isascii() and len(text) < 6 and 1 <= int(text) <= 65535


def _is_address(text: str) -> bool:
    try:
        IPv4Address(text.partition(":")[0])
    except ValueError:
        return False
    return True


def _service(text: str) -> Service:
    try:
        return parse_service(text)
    except ValueError as error:
        raise GatewayError("bad-service", str(error)) from error


def read_text(path: Path) -> str:
    """Read a file; raises GatewayError `unreadable`."""
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        what = f"expected UTF-8, got byte 0x{error.object[error.start]:02x}; save the file as UTF-8"
        raise GatewayError("unreadable", f"{path}:{line}:1: {what}") from error
    except OSError as error:
        raise GatewayError("unreadable", f"{path}: {error.strerror or error}") from error


def peer_action(arguments: argparse.Namespace) -> int:
    """Enroll, approve, forget, restart, quarantine or release a peer."""
    body = {"ek": arguments.ek} if arguments.action == "enroll" else {}
    answer = client(arguments).post(f"/v1/peers/{in_path(arguments.name)}/{arguments.action}", **body)
    if arguments.json:
        show_json(answer)
    else:
        say(f"{arguments.name}: {answer.get('state', answer.get('enrollment'))}")
    return EXIT_OK


def audit_verify(arguments: argparse.Namespace) -> int:
    """Verify the audit record against the TPM and what the peers remember; exit 4 when it is not intact."""
    heads = []
    for path in arguments.head or sorted((Lab(arguments.lab).state_dir / "peers").glob("*/audit_head.json")):
        heads.append(_head(Path(path)))
    answer = client(arguments, WHOLE_RECORD_S).post("/v1/audit/verify", known_heads=heads)
    if arguments.json:
        show_json(answer)
    else:
        for one in answer["findings"]:
            say(f"{one['code']}: {one['message']}")
        verdict = "intact" if answer["intact"] else "NOT INTACT"
        say(f"{answer['records']} records, {answer['witnesses']} witnesses: {verdict}")
    return EXIT_OK if answer["intact"] else EXIT_FOUND


def _head(path: Path) -> dict[str, Any]:
    """Read a head as an agent keeps it; raises GatewayError."""
    try:
        head = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise GatewayError("bad-head", f"{path}: expected JSON, got other text: {error}") from error
    if not isinstance(head, dict) or not {"source", "sequence", "hash"} <= head.keys():
        raise GatewayError(
            "bad-head",
            f"{path}: expected an object with source, sequence and hash, as an agent keeps it in audit_head.json",
        )
    return head
