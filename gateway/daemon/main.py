"""Run quotegated: `quotegated --setup FILE`."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from authn.errors import AuthnError
from filters.errors import FiltersError
from filters.memory import forbid_inspection
from gateway.api.server import start_api
from gateway.daemon.service import Service
from gateway.errors import GatewayError
from gateway.setup import GatewaySetup

STARTUP_S = 10.0


async def _connect(setup: GatewaySetup) -> Service:
    """Wait for netd and tpmd, which start at the same time."""
    deadline = asyncio.get_running_loop().time() + STARTUP_S
    while True:
        try:
            return await Service.open(setup)
        except (GatewayError, FiltersError):
            if asyncio.get_running_loop().time() > deadline:
                raise
            await asyncio.sleep(0.05)


async def run(setup: GatewaySetup) -> None:
    """Serve until SIGTERM, or until a part fails."""
    service = await _connect(setup)
    runner = await start_api(service)
    main = asyncio.create_task(service.run(), name="service")
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    try:
        await main
    except asyncio.CancelledError:
        pass
    finally:
        await service.netd.close()  # first: it withdraws every permission
        await runner.cleanup()
        service.spool.close()


def build_parser() -> argparse.ArgumentParser:
    """Declare the words of `quotegated`."""
    parser = argparse.ArgumentParser(
        prog="quotegated",
        description="The gateway service.",
        epilog="example:\n  quotegated --setup /etc/quotegate/setup.json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--setup", type=Path, required=True, help="the gateway's setup file")
    return parser


def main() -> None:
    """Parse the command line and run; a failure is one line on stderr and exit status 1."""
    arguments = build_parser().parse_args()
    forbid_inspection()
    try:
        asyncio.run(run(GatewaySetup.load(arguments.setup)))
    except (GatewayError, FiltersError, AuthnError) as error:
        sys.exit(f"quotegated: {error.code}: {error.message}")
    except ExceptionGroup as group:
        known, unknown = group.split((GatewayError, FiltersError, AuthnError))
        if unknown is not None:
            raise
        sys.exit(f"quotegated: {'; '.join(str(error) for error in known.exceptions) if known else ''}")


if __name__ == "__main__":
    main()
