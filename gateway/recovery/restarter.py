"""Restart machines: the small interface behind which the lab, and later real VMs, stand."""

from pathlib import Path
from typing import Protocol

from gateway.rpc import RpcClient

KEPT_OFF = "kept-off"  # the refusal to restart a machine that an operator has switched off


class Restarter(Protocol):
    """Who can stop a failed peer's machine and start it again."""

    async def restart(self, peer: str, reason: str) -> None:
        """Restart the machine; returns once it was started. Raises GatewayError when that failed."""

    async def isolate(self, peer: str, reason: str) -> None:
        """Stop the machine and leave it stopped."""


class MonitorRestarter:
    """Ask the host's monitor, over its unix socket, to restart a machine."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def restart(self, peer: str, reason: str) -> None:
        """Restart through the monitor; raises RpcError when it refuses or is away."""
        await self._call("restart_peer", peer, reason)

    async def isolate(self, peer: str, reason: str) -> None:
        """Stop through the monitor; raises RpcError when it refuses or is away."""
        await self._call("stop_peer", peer, reason)

    async def _call(self, op: str, peer: str, reason: str) -> None:
        rpc = await RpcClient.connect(self._socket)
        try:
            await rpc.call(op, peer=peer, reason=reason)
        finally:
            rpc.close()
