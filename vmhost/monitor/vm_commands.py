"""`quotegate-host vm`: list the virtual machines of a lab, switch them, read their consoles, see what was measured."""

import argparse
import json
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from vmhost.errors import HostError
from vmhost.log import harmless, shown
from vmhost.monitor.client import ask
from vmhost.monitor.portrait import UNCHANGED
from vmhost.names import Lab
from vmhost.vm.tail import follow

EXIT_OK, EXIT_FOUND = 0, 4
START_WITHIN_S, STOP_WITHIN_S = 300.0, 300.0  # an operator's word may wait for a start that is under way
_COLUMNS = ("name", "state", "accelerator", "uid", "pid", "tap", "mac", "ip", "since")


def declare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the words."""
    about = "the virtual machines of a lab"
    verbs = commands.add_parser("vm", help=about, description=about).add_subparsers(
        dest="verb", required=True, metavar="VERB"
    )
    words = {
        "list": (list_vms, "list the virtual machines: state, who runs them, where they are connected"),
        "start": (start, "start one: checked firmware, measured files"),
        "stop": (stop, "switch one off; it stays off until it is started here"),
        "restart": (restart, "switch one off and start it"),
        "console": (console, "print what one wrote to its serial console since its last start"),
        "evidence": (evidence, "say what was measured before its last start; exit 4 when something is odd"),
    }
    for verb, (run, text) in words.items():
        one = verbs.add_parser(verb, help=text, description=text)
        one.add_argument("--lab", default="lab", help="which lab (default: lab)")
        one.set_defaults(run=run)
        if verb != "list":
            one.add_argument("name", help="the machine, for example web or gateway")
        if verb in ("list", "evidence"):
            one.add_argument("--json", action="store_true", help="print JSON")
        if verb == "console":
            one.add_argument("--follow", action="store_true", help="go on with what it writes")


def list_vms(arguments: argparse.Namespace) -> int:
    """List them."""
    answer = _ask_list(Lab(arguments.lab))
    if arguments.json:
        _say(json.dumps(answer, indent=1))
        return EXIT_OK
    _say(f"accelerator: {answer['accelerator']['name']} ({answer['accelerator']['reason']})")
    rows = [{**one, "since": _time(one["since"]), "state": _state(one)} for one in answer["vms"]]
    for line in _laid_out(rows):
        _say(line)
    return EXIT_OK


def start(arguments: argparse.Namespace) -> int:
    """Start one."""
    lab = _lab_of(arguments)
    ask(lab, "start_machine", START_WITHIN_S, name=arguments.name)
    _say(f"{arguments.name} is running")
    return EXIT_OK


def stop(arguments: argparse.Namespace) -> int:
    """Switch one off."""
    lab = _lab_of(arguments)
    ask(lab, "stop_machine", STOP_WITHIN_S, name=arguments.name)
    _say(
        f"{arguments.name} is off, and stays off until: quotegate-host vm start {arguments.name} --lab {lab.name}"
    )
    return EXIT_OK


def restart(arguments: argparse.Namespace) -> int:
    """Switch one off and start it."""
    lab = _lab_of(arguments)
    ask(lab, "stop_machine", STOP_WITHIN_S, name=arguments.name)
    ask(lab, "start_machine", START_WITHIN_S, name=arguments.name)
    _say(f"{arguments.name} was restarted")
    return EXIT_OK


def console(arguments: argparse.Namespace) -> int:
    """Print a console's log, harmless to a terminal; with --follow until interrupted."""
    lab = _lab_of(arguments)
    path = Path(_named(_ask_list(lab), arguments.name)["console"])
    try:
        pieces = follow(path, forever=arguments.follow)
        for piece in harmless(pieces) if sys.stdout.isatty() else pieces:
            sys.stdout.buffer.write(piece)
            sys.stdout.flush()
    except OSError as error:
        raise HostError(
            "no-console",
            f"{path}: reading the console's log: {error.strerror}; only root may, once it was started",
        ) from error
    return EXIT_OK


def evidence(arguments: argparse.Namespace) -> int:
    """Say what was measured before its last start, and whether that is what it should be."""
    answer = ask(_lab_of(arguments), "vm_evidence", name=arguments.name)
    if arguments.json:
        _say(json.dumps(answer, indent=1))
    else:
        for line in told(answer):
            _say(line)
    return EXIT_FOUND if odd(answer) else EXIT_OK


def odd(answer: dict[str, Any]) -> list[str]:
    """List what is not as it should be in a machine's evidence."""
    kernel = answer["kernel_image"]
    found = [f"{one['path']} is {one['now']} since" for one in answer["files"] if one["now"] != UNCHANGED]
    if answer["firmware"]["restored"]:
        found.append("the firmware had been altered; it was restored from the golden copy and measured again")
    if kernel is not None and kernel["sha256"] is None:
        found.append("no kernel image can be read from the boot disk")
    elif kernel is not None and not kernel["as_built"]:
        found.append(f"the kernel image is not that of the image {kernel['image']}")
    return found


def told(answer: dict[str, Any]) -> list[str]:
    """Tell a machine's evidence, line by line."""
    firmware, kernel = answer["firmware"], answer["kernel_image"]
    found = "as installed" if not firmware["restored"] else f"restored, found was {firmware['found']}"
    lines = [
        f"{answer['name']}: measured {_time(answer['measured_at'])}, before its last start",
        f"firmware      {firmware['digest']}  the golden copy, version {firmware['version']}; {found}",
    ]
    if kernel is not None:
        image = f"as built: {kernel['image']}.efi" if kernel["as_built"] else "not as built"
        lines.append(f"kernel image  {kernel['sha256'] or 'none can be read':<64}  {image}")
    lines += [f"{Path(one['path']).name:<12}  {one['sha256']}  {one['now']} since" for one in answer["files"]]
    names = ", ".join(Path(one).name for one in answer["not_measured"])
    lines.append(f"not measured, the machine writes to it: {names}")
    lines.append(f"console: {answer['console']}")
    return lines + [f"ODD: {one}" for one in odd(answer)]


def _lab_of(arguments: argparse.Namespace) -> Lab:
    """Return the lab in which there is such a VM; raises HostError."""
    lab = Lab(arguments.lab)
    _named(_ask_list(lab), arguments.name)
    return lab


def _ask_list(lab: Lab) -> dict[str, Any]:
    answer = ask(lab, "list_vms")
    if not answer["vms"]:
        raise HostError(
            "no-vms", f"the machines of lab {lab.name} are namespaces; virtual ones: quotegate lab up --vm"
        )
    return answer


def _named(answer: dict[str, Any], name: str) -> dict[str, Any]:
    for one in answer["vms"]:
        if one["name"] == name:
            return dict(one)
    known = ", ".join(one["name"] for one in answer["vms"])
    raise HostError("unknown-vm", f"there is no virtual machine {name!r}; there are {known}")


def _state(one: dict[str, Any]) -> str:
    if one["kept_off"]:
        return f"off ({one['kept_off_because']})"
    return (
        f"{one['state']} ({shown(one['reason'])})"
        if one["reason"] and one["state"] == "failed"
        else str(one["state"])
    )


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def _laid_out(rows: Iterable[dict[str, Any]]) -> list[str]:
    cells = [_COLUMNS, *(tuple(str(one[name] or "-") for name in _COLUMNS) for one in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(map(str.ljust, line, widths)).rstrip() for line in cells]


def _say(text: str) -> None:
    print(text, flush=True)  # noqa: T201 - the command's answer
