"""Run quotegated: `quotegated --setup FILE`."""

import argparse
import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from authn.errors import AuthnError
from filters.errors import FiltersError, NetdError
from filters.memory import forbid_inspection
from filters.notify import ready
from gateway.daemon.service import Service
from gateway.errors import GatewayError, in_words
from gateway.rpc import RpcError
from gateway.setup import GatewaySetup

if TYPE_CHECKING:
    from aiohttp.web import AppRunner

KNOWN = (GatewayError, FiltersError, AuthnError, OSError)
STARTUP_S = 10.0
LOOK_EVERY_S = 0.02


async def _connect(setup: GatewaySetup) -> Service:
    """Wait for netd and tpmd, which start at the same time. What is wrong with ourselves no waiting mends."""
    deadline = asyncio.get_running_loop().time() + STARTUP_S
    while True:
        try:
            return await Service.open(setup)
        except (RpcError, NetdError):
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.05)


def _load_api() -> "Callable[[Service], Awaitable[AppRunner]]":
    """Load the control API: a third of this program's code, which no peer has to wait for."""
    from gateway.api.server import start_api

    return start_api


async def _start_api(service: Service) -> "AppRunner":
    """Load the control API while the service starts, and serve it after: what is changed earlier would be overwritten.

    Where the start waits for room on the disk, what leads out of that is served.
    """
    start_api = await asyncio.to_thread(_load_api)
    await service.serving.wait()
    return await start_api(service)


async def run(setup: GatewaySetup) -> None:
    """Serve until SIGTERM, or until a part fails. Peers come first: the control API starts beside them."""
    service = await _connect(setup)
    main = asyncio.create_task(service.run(), name="service")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    api = asyncio.create_task(_start_api(service), name="api")
    try:
        await asyncio.wait({main, api}, return_when=asyncio.FIRST_COMPLETED)
        if not main.done():
            await api
            ready()
        await main
    except asyncio.CancelledError:
        pass
    finally:
        main.cancel()
        api.cancel()  # it may wait for a start that failed
        await service.netd.close()  # first: it withdraws every permission
        service.note_rest()
        (runner, _) = await asyncio.gather(api, main, return_exceptions=True)
        if not isinstance(runner, BaseException):
            await runner.cleanup()
        service.spool.close()


def await_state(directory: Path) -> None:
    """Wait until the state is open: its directory is there and may be written to.

    In the appliance it is opened while this program loads. Where that fails the machine is switched off. Raises GatewayError
    where it was mounted amid our own start, and systemd took it for something we may only read: the next start sees it whole.
    """
    while not os.access(directory, os.W_OK):
        if directory.is_dir() and os.statvfs(directory).f_flag & os.ST_RDONLY:
            raise GatewayError(
                "read-only-state", f"{directory}: expected to write to it, and it can only be read"
            )
        time.sleep(LOOK_EVERY_S)


def build_parser() -> argparse.ArgumentParser:
    """Declare the words of `quotegated`."""
    parser = argparse.ArgumentParser(
        prog="quotegated",
        description="The gateway service.",
        epilog="example:\n  quotegated --setup /etc/quotegate/setup.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--setup", type=Path, required=True, help="the gateway's setup file")
    parser.add_argument(
        "--await-state", action="store_true", help="wait until the state directory can be written to"
    )
    return parser


def main() -> None:
    """Parse the command line and run; a failure is one line on stderr and exit status 1."""
    arguments = build_parser().parse_args()
    forbid_inspection()
    try:
        setup = GatewaySetup.load(arguments.setup)
        if arguments.await_state:
            await_state(setup.state_dir)
        asyncio.run(run(setup))
    except KNOWN as error:
        sys.exit(f"quotegated: {in_words(error)}")
    except ExceptionGroup as group:
        known, unknown = group.split(KNOWN)
        if unknown is not None:
            raise
        sys.exit(f"quotegated: {'; '.join(map(in_words, known.exceptions)) if known else ''}")


if __name__ == "__main__":
    main()
