"""Talk to netd: one asyncio connection, one method per verb, events in a queue."""

import asyncio
from collections.abc import Iterable
from ipaddress import IPv4Address
from itertools import count
from pathlib import Path
from typing import Any, Self, cast

from filters.errors import NetdError
from filters.flow import FlowKey
from filters.netd.protocol import (
    Disconnected,
    Event,
    FrameReader,
    NetdCode,
    Snapshot,
    Verb,
    encode_frame,
    event_from_wire,
    key_to_wire,
    snapshot_from_wire,
)
from filters.policy.compiled import CompiledPolicy
from filters.reason import DropReason


class NetdClient(asyncio.Protocol):
    """The one client of netd. When it closes or dies, netd takes back every trust and lease.

    Every method raises NetdError: netd's own refusals by their code, `gone` when the connection ended.
    `events` gets typed events in order; the last one is `Disconnected`.
    """

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self._frames = FrameReader()
        self._waiting: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._numbers = count(1)
        self._end_error: NetdError | None = None
        self._closed = asyncio.Event()
        self._transport: asyncio.Transport

    @classmethod
    async def connect(cls, path: Path | str) -> Self:
        """Connect and make sure netd speaks with us; raises NetdError `gone`, `busy` or `forbidden`."""
        try:
            _, client = await asyncio.get_running_loop().create_unix_connection(cls, str(path))
        except OSError as error:
            raise NetdError(NetdCode.GONE.value, f"netd is not reachable at {path}: {error}") from error
        try:
            await client.ping()
        except BaseException:
            await client.close()
            raise
        return client

    async def close(self) -> None:
        """End the connection; netd flushes trust, authority and leases."""
        self._transport.close()
        await self._closed.wait()

    async def ping(self) -> None:
        """Ask for a sign of life."""
        await self._ask(Verb.PING)

    async def load_policy(self, compiled: CompiledPolicy) -> tuple[int, ...]:
        """Load or replace the policy in one transaction; returns ids of the leases it removed."""
        answer = await self._ask(Verb.LOAD_POLICY, compiled=await asyncio.to_thread(compiled.to_json))
        return tuple(answer["removed"])

    async def check_policy(self, compiled: CompiledPolicy) -> None:
        """Ask whether the kernel would take a policy; raises NetdError with its words. Changes nothing."""
        await self._ask(Verb.CHECK_POLICY, compiled=await asyncio.to_thread(compiled.to_json))

    async def trust(self, ip: IPv4Address, expires_at: float) -> None:
        """Trust a peer until `expires_at` (absolute CLOCK_BOOTTIME seconds); one in the past distrusts."""
        await self._ask(Verb.TRUST, ip=str(ip), expires_at=expires_at)

    async def distrust(self, ip: IPv4Address) -> None:
        """Cut a peer off now: established flows end too."""
        await self._ask(Verb.DISTRUST, ip=str(ip))

    async def quarantine(self, ip: IPv4Address, on: bool) -> None:
        """Put a peer in quarantine, which ends its trust, or take it out."""
        await self._ask(Verb.QUARANTINE, ip=str(ip), on=on)

    async def authority(self, expires_at: float | None) -> None:
        """Say until when (CLOCK_BOOTTIME seconds) an administrator allows communication; None: revoked."""
        await self._ask(Verb.AUTHORITY, expires_at=expires_at)

    async def grant(self, lease_id: int, key: FlowKey, ttl_ms: int) -> None:
        """Let a key open connections; the id (1 to 2^32-1) is never used again by the caller.

        A newer grant of the same key decides for new connections; connections of the older one go on
        until its id expires or is revoked. Raises `not-permitted`, `lease-id-in-use`.
        """
        await self._ask(Verb.GRANT, lease_id=lease_id, key=key_to_wire(key), ttl_ms=ttl_ms)

    async def renew(self, lease_id: int, ttl_ms: int) -> None:
        """Extend a lease that is in force; raises `no-such-lease`."""
        await self._ask(Verb.RENEW, lease_id=lease_id, ttl_ms=ttl_ms)

    async def revoke(self, lease_ids: Iterable[int]) -> None:
        """End leases now, established connections too; unknown ids are ignored."""
        await self._ask(Verb.REVOKE, lease_ids=list(lease_ids))

    async def release(self, hold_id: int) -> None:
        """Let held packets go on to the lease lookup; raises `no-such-hold` after its timeout.

        Without a lease they are dropped there, counted once under the exact reason, and their senders get the
        reject that an authenticated peer may see.
        """
        await self._ask(Verb.RELEASE, hold_id=hold_id)

    async def counters(self) -> dict[DropReason, int]:
        """Return packets dropped by reason since netd started."""
        answer = await self._ask(Verb.COUNTERS)
        return {DropReason(reason): int(packets) for reason, packets in answer["counters"].items()}

    async def snapshot(self) -> Snapshot:
        """Read the sets back from the kernel."""
        return snapshot_from_wire(await self._ask(Verb.SNAPSHOT))

    async def read_back(self) -> list[str]:
        """Compare the kernel's table with the policy in force; return what differs. Raises `no-policy`."""
        return [str(one) for one in (await self._ask(Verb.READ_BACK))["differences"]]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport (asyncio.Protocol)."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Take answers and events (asyncio.Protocol)."""
        try:
            for message in self._frames.feed(data):
                self._take(message)
        except NetdError as error:
            self._end(error)
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        """Fail what still waits (asyncio.Protocol)."""
        self._end(_gone())
        self._closed.set()

    async def _ask(self, verb: Verb, **args: object) -> dict[str, Any]:
        if self._end_error is not None:
            raise self._end_error
        number = next(self._numbers)
        future: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._waiting[number] = future
        self._transport.write(encode_frame({"id": number, "verb": verb.value, "args": args}))
        try:
            return await future
        finally:
            self._waiting.pop(number, None)

    def _take(self, message: dict[str, Any]) -> None:
        if "event" in message:
            self.events.put_nowait(event_from_wire(message))
            return
        if message.get("id") == 0:  # refused before any request was read: busy or forbidden
            self._end(_error(message["error"]))
            return
        future = self._waiting.get(message.get("id", 0))
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(_error(message["error"]))
        else:
            future.set_result(message["ok"])

    def _end(self, error: NetdError) -> None:
        if self._end_error is not None:
            return
        self._end_error = error
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(error)
        self.events.put_nowait(Disconnected())


def _error(data: dict[str, Any]) -> NetdError:
    return NetdError(data["code"], data["message"], **data.get("params", {}))


def _gone() -> NetdError:
    return NetdError(NetdCode.GONE.value, "the connection to netd ended")
