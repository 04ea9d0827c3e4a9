"""`quotegate update`: another image for the gateway, with a way back."""

import argparse
import time
from typing import Any

from filters.policy.services import parse_duration_ms
from gateway.cli.command import of_lab
from gateway.cli.exits import EXIT_DENIED, EXIT_OK
from gateway.cli.output import say, show_json, table
from gateway.errors import GatewayError
from vmhost.monitor.client import ask
from vmhost.names import Lab

COLUMNS = ("slot", "state", "version", "tries left", "reason")
_NEXT = {
    "apply_update": "mend the image, then apply it as a newer version",
    "roll_back_update": "it is kept: quotegate update rollback{of} tries it again, and the next update takes its place",
}
LONGEST_S = 14 * 86_400.0
RETURN_WITHIN_S = 600.0  # for what was in force to be back


def check(arguments: argparse.Namespace) -> int:
    """Check an update; nothing is changed."""
    answer = ask(Lab(arguments.lab), "check_update", 120.0, directory=str(arguments.directory.resolve()))
    if arguments.json:
        show_json(answer)
        return EXIT_OK
    until = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(answer["not_after"]))
    say(
        f"version {answer['version']}: signature, files, approval and reference values are good; valid until {until}"
    )
    return EXIT_OK


def apply(arguments: argparse.Namespace) -> int:
    """Try an update; exit 3 when it fell back."""
    return _try(arguments, "apply_update", directory=str(arguments.directory.resolve()))


def rollback(arguments: argparse.Namespace) -> int:
    """Try the image that was in force before; exit 3 when it fell back."""
    return _try(arguments, "roll_back_update")


def status(arguments: argparse.Namespace) -> int:
    """Show both slots."""
    answer = ask(Lab(arguments.lab), "update_status")
    show_json(answer) if arguments.json else _say_slots(answer)
    return EXIT_OK


def commit(arguments: argparse.Namespace) -> int:
    """Give the way back up."""
    answer = ask(Lab(arguments.lab), "commit_update", 120.0)
    show_json(answer) if arguments.json else say(
        f"the TPM opens the state to version {answer['least']} and newer, to nothing older any more"
    )
    return EXIT_OK


def _try(arguments: argparse.Namespace, op: str, **what: str) -> int:
    within = _seconds(arguments.within)
    patience = arguments.tries * (within + RETURN_WITHIN_S) + RETURN_WITHIN_S
    patience = min(
        max(patience, RETURN_WITHIN_S), LONGEST_S
    )  # what is out of bounds the monitor refuses at once
    answer = ask(Lab(arguments.lab), op, patience, tries=arguments.tries, within_s=within, **what)
    blessed = answer["version"] == answer["tried"]
    if arguments.json:
        show_json(answer)
    elif blessed:
        say(f"version {answer['tried']} passed its self-test and is in force (slot {answer['active']})")
        of = of_lab(arguments.lab)
        say(
            f"to go back: quotegate update rollback{of}; to give the way back up: quotegate update commit{of}"
        )
    else:
        say(f"version {answer['tried']} failed; version {answer['version']} is in force as before")
        _say_slots(answer)
        say(_NEXT[op].format(of=of_lab(arguments.lab)))
    return EXIT_OK if blessed else EXIT_DENIED


def _say_slots(answer: dict[str, Any]) -> None:
    rows = [
        {
            "slot": f"{name} (in force)" if name == answer["active"] else name,
            **one,
            "tries left": one["tries_left"] if one["state"] == "candidate" else None,
            "version": one["version"] or None,
        }
        for name, one in answer["slots"].items()
    ]
    say(table(rows, COLUMNS))
    say(f"the TPM opens the state from version {answer['least']} on")


def _seconds(text: str) -> int:
    try:
        return round(parse_duration_ms(text) / 1000)
    except ValueError as error:
        raise GatewayError("bad-duration", f"--within: {error}") from error
