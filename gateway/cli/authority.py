"""Grant, show and revoke the administrator's authority."""

import argparse
import time

from filters.policy.services import parse_duration_ms
from gateway.authority.gate import create_grant
from gateway.cli.exits import EXIT_OK
from gateway.cli.operate import client
from gateway.cli.output import say, show_json
from gateway.errors import GatewayError
from vmhost.names import Lab
from vmhost.signing_key import load_signing_key


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
    key = load_signing_key(arguments.key or Lab(arguments.lab).administrator_key)
    signed = create_grant(sequence, now + seconds, key, not_before=now)
    return _print(arguments, api.post("/v1/authority/grant", grant=signed.decode()))


def revoke(arguments: argparse.Namespace) -> int:
    """Withdraw authority: all guest-to-guest traffic ends at once."""
    return _print(arguments, client(arguments).post("/v1/authority/revoke"))


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
