"""Talk with quotegated: assignments come, findings go. Without quotegated nothing is carried."""

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from filters.errors import FiltersError
from filters.inspection.assignments import Assignment, Assignments
from filters.inspection.datagrams import DatagramFlow, Endpoint
from filters.inspection.finding import Finding
from filters.inspection.material import Material
from filters.inspection.worker.flow import Flow
from filters.netd.protocol import FrameReader, encode_frame

PortOf = Callable[[Endpoint, Endpoint], int]


class ControlLost(FiltersError):
    """quotegated is away."""


class Control:
    """The connection to quotegated."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader()
        self.assignments = Assignments()

    @classmethod
    async def connect(cls, path: Path) -> "Control":
        """Connect; raises ControlLost."""
        try:
            return cls(*await asyncio.open_unix_connection(path))
        except OSError as error:
            raise ControlLost(
                "away", f"quotegated does not answer at {path.name}: {error.strerror}"
            ) from error

    async def learn(self) -> None:
        """Take the first assignments, which quotegated tells at once; raises ControlLost."""
        told = asyncio.Event()
        while not told.is_set():
            await self._hear(told.set, lambda _client, _server: 0)

    async def listen(self, changed: Callable[[], None], port_of: PortOf) -> None:
        """Take assignments and questions for ever; raises ControlLost when quotegated goes.

        changed: told when assignments have changed. port_of: knows the port of a connection's far leg.
        """
        while True:
            await self._hear(changed, port_of)

    async def _hear(self, changed: Callable[[], None], port_of: PortOf) -> None:
        data = await self._reader.read(1 << 16)
        if not data:
            raise ControlLost("away", "quotegated hung up")
        for message in self._frames.feed(data):
            if "where" in message:
                (client, near), (server, port) = message["client"], message["server"]
                far = port_of((str(client), int(near)), (str(server), int(port)))
                self._send({"there": message["where"], "port": far})
                continue
            self.assignments = Assignments(tuple(Assignment.from_json(one) for one in message["assignments"]))
            changed()
            self._send({"taken": message["number"]})

    def introduce(self, confined: list[str]) -> None:
        """Say what confines this process."""
        self._send({"confined": confined})

    def tell_alive(self) -> None:
        """Give a sign of life: who is silent for long is ended."""
        self._send({"alive": True})

    def tell_material(self, material: Material, notes: tuple[str, ...]) -> None:
        """Say which of the operator's files are in use, which can't be, and what in them is not in force."""
        bad = [{"name": one.name, "problem": one.problem, "kept": one.kept} for one in material.bad]
        self._send({"material": {"files": [one.name for one in material.files], "bad": bad, "notes": notes}})

    def tell_stream(self, flow: Flow, finding: Finding) -> None:
        """Report a finding in a TCP connection."""
        self._tell(socket.IPPROTO_TCP, flow.ends.client, flow.ends.server, flow.rule, flow.protocol, finding)

    def tell_datagram(self, flow: DatagramFlow, finding: Finding) -> None:
        """Report a finding in datagrams."""
        self._tell(flow.transport, flow.client, flow.server, flow.assignment.rule, flow.spoken, finding)

    def _tell(
        self, transport: int, client: Endpoint, server: Endpoint, rule: str, spoken: str, finding: Finding
    ) -> None:
        direction = finding.direction
        report = {
            "transport": transport,
            "source_ip": client[0],
            "source_port": client[1],
            "destination_ip": server[0],
            "destination_port": server[1],
            "rule": rule,
            "protocol_spoken": spoken,
            "direction": "" if direction is None else direction.name.lower().replace("_", "-"),
            "reason": finding.reason,
            "check": finding.check,
            "detail": finding.detail,
            "inside": finding.inside,
            "offset": finding.offset,
            "evidence": finding.evidence,
            "cuts": finding.cuts,
        }
        self._send({"finding": report})

    def _send(self, message: dict[str, Any]) -> None:
        if not self._writer.is_closing():
            self._writer.write(encode_frame(message))
