"""Restart machines: the small interface behind which those stand who can, of namespaces and of virtual machines."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from gateway.rpc import Payload, RpcClient, RpcError

KEPT_OFF = "kept-off"  # the refusal to restart a machine that an operator has switched off


class Restarter(Protocol):
    """Who can restart a failed peer's machine."""

    async def restart(self, peer: str, reason: str) -> None:
        """Restart the machine and say why; returns once it was started. Raises GatewayError when that failed."""

    async def machines(self) -> Mapping[str, bool]:
        """Tell of each machine whether it is to run (False: it was switched off to stay off); raises GatewayError when nobody can."""


class MonitorRestarter:
    """Ask the host's monitor, over its unix socket, to restart a machine."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def restart(self, peer: str, reason: str) -> None:
        """Restart through the monitor; raises RpcError when it refuses or is away."""
        await self._call("restart_peer", peer=peer, reason=reason)

    async def machines(self) -> Mapping[str, bool]:
        """Ask the monitor; raises RpcError when it is away or answers something else."""
        answer = await self._call("status")
        try:
            machines: Any = answer["peers"]
            # a host of before says only what runs
            return {
                str(name): not one["kept_off"] if "kept_off" in one else bool(one["pids"])
                for name, one in machines.items()
            }
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
