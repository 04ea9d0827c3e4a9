"""Run an inspector: `python -m filters.inspection.worker.main --netd SOCKET --control SOCKET`. It needs no rights at all."""

import argparse
import asyncio
import contextlib
import errno
import logging
import math
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from filters import notify
from filters.errors import FiltersError
from filters.inspection.assignments import Assignment
from filters.inspection.datagrams import Datagrams, Endpoint
from filters.inspection.finding import Finding
from filters.inspection.worker.confinement import confine_inspector, start_forkserver
from filters.inspection.worker.control import Control
from filters.inspection.worker.flow import Ends, Flow
from filters.inspection.worker.memory import Memory
from filters.inspection.worker.opening import Opening
from filters.inspection.worker.packets import Packets
from filters.inspection.worker.sockets import Sockets
from filters.inspection.worker.windows import offer
from filters.inspection.worker.workshop import Workshop
from filters.memory import forbid_inspection
from filters.netd.tcp_socket import read_connection
from filters.reason import DropReason
from filters.ruleset.names import MOST_INSPECTORS
from filters.shares import Shares

MOST_FLOWS: Final = 4096
DRAIN_S: Final = 3600.0  # a newer inspector is there for so long at most
HANG_S: Final = 10  # whoever parses for so long without a pause hangs
BEAT_S: Final = 1.0
AGAIN_S: Final = 0.1
NO_ROOM: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_log = logging.getLogger(__name__)


class Inspector:
    """Accept, connect on, carry."""

    def __init__(self, sockets: Sockets, control: Control, workshop: Workshop) -> None:
        self._sockets, self._control, self._workshop = sockets, control, workshop
        self._flows: set[Flow] = set()
        self._shares = Shares(MOST_FLOWS)
        self._memory = Memory()
        self._pulse = Pulse(control.tell_alive)
        self._tasks: set[asyncio.Task[None]] = set()
        self._retired = asyncio.Event()
        self._is_full = False  # there is no room for a connection that waits
        datagrams = Datagrams(workshop.judge, workshop.lacking, control.tell_datagram)
        self._opening = Opening(self._far_leg, lambda *ends: self._assignment(*ends) is not None)
        self._packets = Packets(
            sockets.packets, datagrams, self._opening, lambda: control.assignments, self._retired.set
        )

    async def run(self) -> None:
        """Serve until netd or quotegated goes, or a newer inspector is there and all flows are over; raises FiltersError."""
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(
                        self._control.listen(self._reassign, self._opening.port_of), name="control"
                    ),
                    group.create_task(self._sockets.watch(), name="netd"),
                    group.create_task(self._workshop.watch(), name="material"),
                    group.create_task(stay_alive(self._pulse), name="watchdog"),
                    group.create_task(self._packets.serve(), name="packets"),
                ]
                await self._accept()
                _log.info("a newer inspector is there; %d connections are left here", len(self._tasks))
                with contextlib.suppress(TimeoutError):  # what lives then is reset
                    await asyncio.wait_for(self._drain(), DRAIN_S)
                for task in tasks:
                    task.cancel()
        finally:
            for flow in list(self._flows):
                flow.reset()
            self._workshop.judging.close()

    async def _accept(self) -> None:
        """Accept connections until a newer inspector is there, and what has come until then."""
        loop, listener = asyncio.get_running_loop(), self._sockets.listener
        loop.add_reader(listener.fileno(), self._accept_all, listener)
        await self._retired.wait()
        loop.remove_reader(listener.fileno())
        self._accept_all(listener)
        listener.close()

    def _accept_all(self, listener: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            while True:
                try:
                    near, client = listener.accept()
                except OSError as error:
                    if error.errno not in NO_ROOM:
                        raise
                    self._accept_later(listener, error)
                    return
                self._is_full = False
                near.setblocking(False)
                task = asyncio.create_task(self._carry(near, client), name=f"flow of {client[0]}")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)

    def _accept_later(self, listener: socket.socket, error: OSError) -> None:
        """Let connections wait in the kernel for a moment: there is no room for one more now."""
        if not self._is_full:
            _log.warning("connections wait: %s", error.strerror)
        self._is_full = True
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener.fileno())

        def go_on() -> None:
            if not self._retired.is_set():
                loop.add_reader(listener.fileno(), self._accept_all, listener)

        loop.call_later(AGAIN_S, go_on)

    async def _drain(self) -> None:
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _carry(self, near: socket.socket, client: tuple[str, int]) -> None:
        ends = Ends(client, near.getsockname())
        found = self._assignment(client, ends.server)
        if found is None:
            near.close()  # with a reset (inspector_sockets.py)
            return
        flow = Flow(
            ends,
            found.rule,
            self._workshop.judge(found.spec),
            lambda job: self._workshop.judging.judge(ends.sender(job.direction), found.spec, job),
            self._control.tell_stream,
            self._memory,
            self._sockets.give_back,
            self._pulse.beat,
        )
        if lacking := self._workshop.lacking(found.spec):
            detail = f"the rule demands {', '.join(sorted(lacking))}, and no file of yours says what that is"
            self._refuse(flow, near, Finding(DropReason.INSPECTOR_DOWN, "material", detail))
            return
        if not self._shares.take(ends.guests):
            detail = (
                f"more than {MOST_FLOWS} connections at one inspector, or more than a guest's share of them"
            )
            self._refuse(flow, near, Finding(DropReason.RESOURCE_LIMIT, "flows", detail))
            return
        try:
            await self._connect(flow, near)
        except OSError:
            flow.reset()
            near.close()  # refused, unreachable or silent: the client's connection ends
        finally:
            self._shares.give(ends.guests)
            self._opening.over(client, ends.server)
            self._flows.discard(flow)

    def _refuse(self, flow: Flow, near: socket.socket, why: Finding) -> None:
        self._control.tell_stream(flow, why)
        flow.reset()
        near.close()

    def _reassign(self) -> None:
        """End connections whose rule says something else now: what they carried was inspected otherwise."""
        specs = self._control.assignments.specs
        asyncio.get_running_loop().run_in_executor(None, self._workshop.prepare, specs)
        for flow in list(self._flows):
            if flow.done.is_set():
                continue
            found = self._assignment(flow.ends.client, flow.ends.server)
            if found is None or found.spec != flow.spec:
                flow.reset()
                detail = "another policy is in force, which inspects this connection otherwise or not at all"
                self._control.tell_stream(flow, Finding(DropReason.ADMIN_CUT, "policy", detail))

    async def _far_leg(self, client: Endpoint, server: Endpoint, shift: int | None) -> socket.socket:
        found = self._assignment(client, server)
        deep = found is not None and found.spec.offload_after > 0
        far = await self._sockets.far_leg(client, server, shift if deep else None)
        # its near leg comes next: at most one beside it is made with this one's window scale
        try:
            offer(self._sockets.listener, read_connection(far).window_shifts[0] if deep else None)
        except OSError:  # it is over again, or a newer inspector is there
            far.close()
            raise
        return far

    def _assignment(self, client: Endpoint, server: Endpoint) -> Assignment | None:
        return self._control.assignments.find(socket.IPPROTO_TCP, client[0], server[0], server[1])

    async def _connect(self, flow: Flow, near: socket.socket) -> None:
        self._flows.add(flow)  # from here on a change of policy is for it as well
        far = await self._opening.take(flow.ends.client, flow.ends.server)
        if flow.done.is_set():
            far.close()
            raise ConnectionAbortedError
        flow.begin(near, far)
        await flow.done.wait()


class Pulse:
    """Let the kernel end this process when it hangs, whoever holds the interpreter then; give signs of life to others.

    A process that is stopped does not even get the kernel's signal: then who watches those signs ends it.
    """

    def __init__(self, tell: Callable[[], None]) -> None:
        self._tell, self._told = tell, -math.inf

    def beat(self) -> None:
        """Begin to measure anew: a piece of work begins. What several do one after the other is no hang of any."""
        signal.alarm(HANG_S)
        now = time.monotonic()
        if now - self._told >= BEAT_S:
            self._told = now
            self._tell()
            notify.alive()


async def stay_alive(pulse: Pulse) -> None:
    """Beat also when there is nothing to do."""
    try:
        while True:
            pulse.beat()
            await asyncio.sleep(BEAT_S)
    finally:
        signal.alarm(0)


async def run(netd: Path, control: Path, material: Path | None, number: int) -> None:
    """Connect to both and serve until SIGTERM; raises FiltersError."""
    start_forkserver()
    told = await Control.connect(control)
    told.introduce(confine_inspector(material))
    workshop = Workshop(material, told.tell_material)
    await workshop.open()
    await told.learn()
    workshop.prepare(told.assignments.specs)
    sockets = await Sockets.connect(netd, number)  # last: from here on connections come
    workshop.tell()
    notify.ready()
    main = asyncio.create_task(Inspector(sockets, told, workshop).run())
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, main.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await main


def main() -> int:
    """Run; exit status 1 when netd or quotegated is away."""
    parser = argparse.ArgumentParser(prog="inspector", description="Quotegate's inspector of content")
    parser.add_argument("--netd", type=Path, required=True, help="where netd gives sockets")
    parser.add_argument("--control", type=Path, required=True, help="where quotegated listens for inspectors")
    parser.add_argument("--material", type=Path, help="directory of the operator's patterns and rules")
    parser.add_argument(
        "--number",
        type=int,
        choices=range(MOST_INSPECTORS),
        default=0,
        help="which of several inspectors this is",
    )
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="inspector: %(levelname)s %(message)s")
    forbid_inspection()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # two for each connection
    status = 0
    try:
        asyncio.run(run(options.netd, options.control, options.material, options.number))
    except* (FiltersError, OSError, TimeoutError) as group:
        status = 1
        for error in group.exceptions:
            _log.error("%s", error)
    return status


if __name__ == "__main__":
    sys.exit(main())
