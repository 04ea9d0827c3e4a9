"""Restart machines: the small interface behind which those stand who can, of namespaces and of virtual machines."""

from pathlib import Path
from typing import Any, Protocol

from gateway.rpc import Payload, RpcClient, RpcError

KEPT_OFF = "kept-off"  # the refusal to restart a machine that an operator has switched off


class Restarter(Protocol):
    """Who can restart a failed peer's machine."""

    async def restart(self, peer: str, reason: str) -> None:
        """Restart the machine and say why; returns once it was started. Raises GatewayError when that failed."""

    async def running(self) -> frozenset[str]:
        """Name the machines that run; raises GatewayError when that can't be told."""


class MonitorRestarter:
    """Ask the host's monitor, over its unix socket, to restart a machine."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def restart(self, peer: str, reason: str) -> None:
        """Restart through the monitor; raises RpcError when it refuses or is away."""
        await self._call("restart_peer", peer=peer, reason=reason)

    async def running(self) -> frozenset[str]:
        """Ask the monitor which machines run; raises RpcError when it is away or answers something else."""
        answer = await self._call("status")
        try:
            machines: Any = answer["peers"]
            return frozenset(str(name) for name, one in machines.items() if one["pids"])
        except (KeyError, TypeError, AttributeError) as error:
            raise RpcError("malformed-message", f"the monitor's status has no machines: {error!r}") from error

    async def end_inspector(self, pid: int) -> None:
        """Have an inspector that hangs ended, and another one started; raises RpcError when the monitor refuses or is away."""
        await self._call("end_inspector", pid=pid)

    async def _call(self, op: str, **params: object) -> Payload:
        rpc = await RpcClient.connect(self._socket)
        try:
            return await rpc.call(op, **params)
        finally:
            rpc.close()
