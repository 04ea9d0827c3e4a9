"""Run tpmd: `python -m gateway.tpmd.main --setup FILE`."""

import argparse
import asyncio
import signal
import sys
from pathlib import Path

from authn.errors import AuthnError
from authn.tpm_worker import TpmWorker
from filters.memory import forbid_inspection
from filters.notify import ready
from gateway import rpc
from gateway.errors import GatewayError, in_words
from gateway.setup import GatewaySetup
from gateway.tpmd.server import TpmService

QUOTEGATED_UID = 64103


async def run(setup: GatewaySetup) -> None:
    """Serve quotes until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    worker = TpmWorker(setup.tpm)
    service = TpmService(worker, setup.gateway_profile.selection, QUOTEGATED_UID, setup.approval)
    try:
        await worker.run(lambda tpm: tpm.provision())
        server = await rpc.serve(setup.sockets.tpmd, service.handle, admit=service.admit)
        async with server:
            ready()
            await stop.wait()
    finally:
        worker.close()


def main() -> None:
    """Parse the command line and run; a failure is one line on stderr and exit status 1."""
    parser = argparse.ArgumentParser(
        prog="tpmd", description="Serve quotes of the gateway's TPM to quotegated."
    )
    parser.add_argument("--setup", type=Path, required=True, help="the gateway's setup file")
    arguments = parser.parse_args()
    forbid_inspection()
    try:
        asyncio.run(run(GatewaySetup.load(arguments.setup)))
    except (GatewayError, AuthnError, OSError) as error:
        sys.exit(f"tpmd: {in_words(error)}")


if __name__ == "__main__":
    main()
