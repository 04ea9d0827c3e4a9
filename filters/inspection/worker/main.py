"""Run an inspector: `python -m filters.inspection.worker.main --netd SOCKET --control SOCKET`. It needs no rights at all."""

import argparse
import asyncio
import contextlib
import logging
import signal
import socket
import sys
from functools import lru_cache, partial
from pathlib import Path
from typing import Final

from filters.errors import FiltersError
from filters.inspection.objects.judge import Judge
from filters.inspection.spec import InspectionSpec
from filters.inspection.toolbox import Toolbox
from filters.inspection.worker.control import Control
from filters.inspection.worker.flow import Ends, Flow, Leg
from filters.inspection.worker.judging import Judging
from filters.inspection.worker.sockets import Sockets
from filters.memory import forbid_inspection

CONNECT_S: Final = 10.0
MOST_FLOWS: Final = 4096
_log = logging.getLogger(__name__)


class Inspector:
    """Accept, connect on, carry."""

    def __init__(self, sockets: Sockets, control: Control) -> None:
        self._sockets, self._control = sockets, control
        self._toolbox = Toolbox()
        self._judging = Judging(self._toolbox.limits.scan_s)
        self._judge = lru_cache(maxsize=64)(self._toolbox.judge)
        self._flows: set[Flow] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until netd or quotegated goes; raises FiltersError."""
        self._judge(InspectionSpec())
        await self._judging.warm()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._control.listen(), name="control")
                group.create_task(self._sockets.watch(), name="netd")
                group.create_task(self._accept(), name="accept")
        finally:
            for flow in list(self._flows):
                flow.reset()
            self._judging.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            near, client = await loop.sock_accept(self._sockets.listener)
            task = asyncio.create_task(self._carry(near, client), name=f"flow of {client[0]}")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _carry(self, near: socket.socket, client: tuple[str, int]) -> None:
        ends = Ends(client, near.getsockname())
        found = self._control.assignments.find(client[0], ends.server[0], ends.server[1])
        if found is None or len(self._flows) >= MOST_FLOWS:
            _drop(near)
            return
        judge: Judge = self._judge(found.spec)
        flow = Flow(
            ends, found.rule, judge, lambda job: self._judging.judge(found.spec, job), self._control.tell
        )
        try:
            async with asyncio.timeout(CONNECT_S):
                far = await self._sockets.far_leg(client, ends.server)
        except (OSError, TimeoutError):
            _drop(near)  # refused, unreachable or silent: the client's connection ends
            return
        self._flows.add(flow)
        loop = asyncio.get_running_loop()
        try:
            for sock, leg in ((far, flow.legs[1]), (near, flow.legs[0])):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                await loop.connect_accepted_socket(partial(_itself, leg), sock)
            await flow.done.wait()
        finally:
            self._flows.discard(flow)


def _itself(leg: Leg) -> Leg:
    return leg


def _drop(near: socket.socket) -> None:
    near.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    near.close()


async def run(netd: Path, control: Path) -> None:
    """Connect to both and serve until SIGTERM; raises FiltersError."""
    inspector = Inspector(await Sockets.connect(netd), await Control.connect(control))
    main = asyncio.create_task(inspector.run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await main


def main() -> int:
    """Run; exit status 1 when netd or quotegated is away."""
    parser = argparse.ArgumentParser(prog="inspector", description="Quotegate's inspector of content")
    parser.add_argument("--netd", type=Path, required=True, help="where netd gives sockets")
    parser.add_argument("--control", type=Path, required=True, help="where quotegated listens for inspectors")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="inspector: %(levelname)s %(message)s")
    forbid_inspection()
    status = 0
    try:
        asyncio.run(run(options.netd, options.control))
    except* FiltersError as group:
        status = 1
        for error in group.exceptions:
            _log.error("%s", error)
    return status


if __name__ == "__main__":
    sys.exit(main())
