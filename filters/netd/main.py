"""Start netd: `python -m filters.netd.main --socket PATH --client-uid UID --interface IF`.

It needs CAP_NET_ADMIN and nothing else, runs in the gateway's network namespace, and first of all closes it.
"""

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from pathlib import Path

from filters.errors import FiltersError
from filters.memory import forbid_inspection
from filters.netd.inspector_sockets import InspectorSockets
from filters.netd.protocol import no_socket
from filters.netd.server import Server
from filters.netd.service import Service
from filters.netd.sysctl import apply_sysctls
from filters.notify import ready

_SOCKET_MODE = 0o666  # who may use it is decided by SO_PEERCRED


async def run(path: Path, client_uid: int, interface: str, inspectors: tuple[Path, int] | None) -> None:
    """Serve until SIGTERM or SIGINT; raises FiltersError when the kernel refuses what netd needs."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = Server(client_uid, stop.set)
    service = Service(interface, server.emit)
    try:
        apply_sysctls(interface)
        server.service = service
        try:
            listener = await loop.create_unix_server(server.connection, path)
            await asyncio.to_thread(path.chmod, _SOCKET_MODE)
        except OSError as error:
            raise no_socket(path, error) from error
        async with listener, asyncio.TaskGroup() as group:
            tasks = [group.create_task(service.watch(), name="watch")]
            if inspectors is not None:
                sockets = InspectorSockets(*inspectors, service.admit)
                tasks.append(group.create_task(sockets.serve(), name="inspectors"))
            ready()
            await stop.wait()
            for task in tasks:
                task.cancel()
    finally:
        server.stop()
        service.close()
        with contextlib.suppress(FileNotFoundError):
            await asyncio.to_thread(path.unlink)


def main() -> int:
    """Run netd; exit status 1 when it may not or cannot."""
    parser = argparse.ArgumentParser(prog="netd", description="Quotegate's network daemon")
    parser.add_argument("--socket", type=Path, required=True, help="unix socket to listen on")
    parser.add_argument("--client-uid", type=int, required=True, help="the only uid that may connect")
    parser.add_argument("--interface", required=True, help="interface of the gateway")
    parser.add_argument("--inspector-socket", type=Path, help="unix socket where inspectors get theirs")
    parser.add_argument("--inspector-uid", type=int, help="the only uid that may have them")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="netd: %(levelname)s %(message)s")
    status = 0
    forbid_inspection()
    try:
        inspectors = None
        if options.inspector_socket is not None and options.inspector_uid is not None:
            inspectors = options.inspector_socket, options.inspector_uid
        asyncio.run(run(options.socket, options.client_uid, options.interface, inspectors))
    except* FiltersError as group:
        status = 1
        for error in group.exceptions:
            logging.getLogger(__name__).error("%s", error)
    return status


if __name__ == "__main__":
    sys.exit(main())
