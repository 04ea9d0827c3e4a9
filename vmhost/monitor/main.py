"""The `quotegate-host` command: run a lab's monitor, or ask it."""

import argparse
import asyncio
import contextlib
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from vmhost.errors import HostError
from vmhost.lab.code import ENVIRONMENT
from vmhost.lab.host_unit import host_unit
from vmhost.lab.kept import kept_spec, load_spec, spec_file
from vmhost.lab.setup import PROJECT, demand_root
from vmhost.lab.teardown import tear_down
from vmhost.log import shown
from vmhost.monitor import golden_commands, vm_commands
from vmhost.monitor.client import ask
from vmhost.monitor.monitor import Failure, Monitor
from vmhost.monitor.server import MonitorServer
from vmhost.names import Lab
from vmhost.vm.gateway import GatewayVm

EXAMPLES = """examples:
  quotegate-host vm list
  quotegate-host vm console web --follow
  quotegate-host vm stop web        it stays off until: quotegate-host vm start web
  quotegate-host vm evidence web    what was measured before it started
  quotegate-host golden sign /usr/share/OVMF/OVMF_CODE.fd --days 90
  quotegate-host status --lab lab
  quotegate-host unit --lab lab     for systemd, so that its machines start with the host

exit status: 0 done, 1 error, 2 wrong usage, 3 denied or refused, 4 a check found something
"""
EXIT_ERROR, EXIT_REFUSED = 1, 3
REFUSALS = frozenset({"already-running", "kept-off", "not-permitted"})


async def _run(lab: Lab, root: Path, owner: int | None) -> int:
    """Run until told to stop, or until the owner's end of the pipe is closed; end everything then, and return the exit status.

    Raises what ended the monitor when that was not a wish.
    """
    monitor = Monitor(load_spec(spec_file(lab.run_dir)), root)
    server = MonitorServer(monitor)
    if isinstance(monitor.gateway, GatewayVm):
        monitor.gateway.services = {"monitor": server.for_gateway}
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, server.shutdown.set)
    if owner is not None:
        loop.add_reader(owner, server.shutdown.set)
    serving = asyncio.create_task(server.serve(lab.monitor_socket), name="socket")
    starting = asyncio.create_task(monitor.start(), name="start")
    supervising = asyncio.create_task(monitor.supervise(), name="supervise")
    stop = asyncio.create_task(server.shutdown.wait(), name="stop")
    status = 0
    try:
        await _first_of(starting, serving, supervising, stop)
        if starting.done():
            (lab.run_dir / "ready").touch()
            await _first_of(serving, supervising, stop)
    except Failure as error:
        status = EXIT_ERROR
        with contextlib.suppress(OSError):  # no space left, for example
            (lab.run_dir / "failed").write_text(str(error))
    finally:
        if not starting.done():
            await asyncio.wait({starting})
        await monitor.stop()
        if owner is not None:
            tear_down(lab, keep_pid=os.getpid())
    return status


async def _first_of(*tasks: "asyncio.Task[Any]") -> None:
    """Wait until one task is over; raises what it raised."""
    done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in done:
        task.result()


def build_parser() -> argparse.ArgumentParser:
    """Declare the words of `quotegate-host`."""
    parser = argparse.ArgumentParser(
        prog="quotegate-host",
        description="The host's monitor.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True)
    monitor = commands.add_parser("monitor", help="run the monitor of a lab (lab up does this)")
    monitor.add_argument("--lab", required=True)
    monitor.add_argument("--root", type=Path, required=True, help="where the code is")
    monitor.add_argument("--owner-fd", type=int, help="tear everything down when this pipe closes")
    monitor.set_defaults(run=_monitor)
    status = commands.add_parser("status", help="show a lab's machines")
    status.add_argument("--lab", default="lab")
    status.set_defaults(run=_status)
    about = "print a systemd unit that starts a lab's virtual machines with the host"
    unit = commands.add_parser("unit", help=about, description=about)
    unit.add_argument("--lab", default="lab", help="which lab (default: lab)")
    unit.set_defaults(run=_unit)
    vm_commands.declare(commands)
    golden_commands.declare(commands)
    return parser


def _monitor(arguments: argparse.Namespace) -> int:
    return asyncio.run(_run(Lab(arguments.lab), arguments.root, arguments.owner_fd))


def _status(arguments: argparse.Namespace) -> int:
    print(json.dumps(ask(Lab(arguments.lab), "status"), indent=1))  # noqa: T201 - the command's answer
    return 0


def _unit(arguments: argparse.Namespace) -> int:
    demand_root()  # what is kept of a lab is root's
    lab = kept_spec(Lab(arguments.lab)).lab
    print(host_unit(lab, PROJECT, PROJECT / ENVIRONMENT / "bin/quotegate"), end="")  # noqa: T201 - the command's answer
    return 0


def main() -> None:
    """Parse the command line and run; exit 3 for what is refused."""
    arguments = build_parser().parse_args()
    try:
        sys.exit(arguments.run(arguments))
    except HostError as error:
        said = f"{error.code}: {error.message}".splitlines()
        print("quotegate-host:", "\n".join(map(shown, said)), file=sys.stderr)  # noqa: T201 - the command's answer
        sys.exit(EXIT_REFUSED if error.code in REFUSALS else EXIT_ERROR)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)


if __name__ == "__main__":
    main()
