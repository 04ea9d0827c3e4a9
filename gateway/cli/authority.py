"""Grant, show and revoke the administrator's authority."""

import argparse
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from filters.policy.services import parse_duration_ms
from gateway.authority.gate import create_grant
from gateway.cli.operate import EXIT_OK, client
from gateway.cli.output import say, show_json
from gateway.errors import GatewayError


def show(arguments: argparse.Namespace) -> int:
    """Show what authority is in force."""
    return _print(arguments, client(arguments).get("/v1/authority"))


def grant(arguments: argparse.Namespace) -> int:
    """Sign a grant with the administrator's key and hand it in."""
    api = client(arguments)
    sequence = api.get("/v1/authority")["sequence"] + 1
    try:
        seconds = parse_duration_ms(arguments.duration) / 1000
    except ValueError as error:
        raise GatewayError("bad-duration", f"--for: {error}") from error
    now = time.time()
    signed = create_grant(sequence, now + seconds, _key(arguments), not_before=now)
    return _print(arguments, api.post("/v1/authority/grant", grant=signed.decode()))


def revoke(arguments: argparse.Namespace) -> int:
    """Withdraw authority: all guest-to-guest traffic ends at once."""
    return _print(arguments, client(arguments).post("/v1/authority/revoke"))


def _key(arguments: argparse.Namespace) -> Ed25519PrivateKey:
    path = arguments.key or Path("/var/lib/quotegate") / arguments.lab / "administrator.key"
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
    except (OSError, ValueError) as error:
        raise GatewayError("no-key", f"the administrator's key can't be read from {path}: {error}") from error


def _print(arguments: argparse.Namespace, answer: dict[str, object]) -> int:
    if arguments.json:
        show_json(answer)
        return EXIT_OK
    until = answer["not_after"]
    when = (
        time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(until)) if isinstance(until, int | float) else "-"
    )
    say(f"authority: {answer['state']}, until {when}, sequence {answer['sequence']}")
    return EXIT_OK
