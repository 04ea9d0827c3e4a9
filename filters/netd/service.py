"""Answer requests: one method per verb, over the parts that do the work."""

import asyncio
import contextlib
import errno
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from filters.errors import NetdError
from filters.netd import peers
from filters.netd.announcements import Announcements
from filters.netd.arguments import Arguments
from filters.netd.handover import Handover
from filters.netd.hold_desk import HoldDesk
from filters.netd.inspector_sockets import MOST_CONNECTIONS
from filters.netd.kernel import KernelTable
from filters.netd.leases import Leases
from filters.netd.log import DropLog
from filters.netd.packet_desk import PacketDesk
from filters.netd.policies import Policies
from filters.netd.protocol import Event, Lost, NetdCode, Verb, malformed, snapshot_to_wire
from filters.netd.readout import take_snapshot
from filters.netd.state import State
from filters.netd.watch import Watch
from filters.ruleset.names import LOG_GROUP

WATCH_INTERVAL_S: Final = 0.25

Answer = dict[str, Any]
_Handler = Callable[[Arguments], Answer | None]


class Service:
    """Everything netd does for its client. Closing it takes back all trust; the table stays and drops."""

    def __init__(self, interface: str, emit: Callable[[Event], None]) -> None:
        self._emit = emit
        self._state = State(interface, KernelTable())
        self._leases = Leases(self._state)
        self._policies = Policies(self._state, self._leases)
        self._policies.close_all()
        self._watch = Watch(self._state, self._leases, self._policies, emit)
        self._announcements = Announcements()
        self._holds = HoldDesk(self._state.may_wait, emit)
        self._packets = PacketDesk()
        self._handover = Handover(self._state)
        self._log = DropLog(LOG_GROUP)
        self._lost_samples = 0
        self._knows_tables = False  # the client of now
        loop = asyncio.get_running_loop()
        loop.add_reader(self._log.fileno(), self._samples)
        loop.add_reader(self._announcements.fileno(), self._announced)
        self._handlers: Mapping[Verb, _Handler] = {
            Verb.PING: lambda _: None,
            Verb.TRUST: lambda args: peers.trust(self._state, args.ip(), args.time("expires_at")),
            Verb.DISTRUST: lambda args: peers.distrust(self._state, args.ip()),
            Verb.QUARANTINE: lambda args: peers.quarantine(self._state, args.ip(), args.flag("on")),
            Verb.AUTHORITY: lambda args: peers.set_authority(self._state, args.optional_time("expires_at")),
            Verb.GRANT: lambda args: self._leases.grant(args.lease_id(), args.key(), args.ttl_ms()),
            Verb.RENEW: lambda args: self._leases.renew(args.lease_id(), args.ttl_ms()),
            Verb.REVOKE: lambda args: self._leases.revoke(args.lease_ids()),
            Verb.RELEASE: lambda args: self._holds.release(args.hold_id()),
            Verb.COUNTERS: lambda _: self._counters(),
            Verb.READ_BACK: lambda _: self._read_back(),
        }

    def close(self) -> None:
        """Stop; nothing passes afterwards."""
        for source in (self._log, self._announcements):
            asyncio.get_running_loop().remove_reader(source.fileno())
        self.forget_client()
        self._leases.close()
        self._holds.close()
        self._packets.close()
        self._handover.close()
        self._log.close()
        self._announcements.close()
        self._state.kernel.close()

    def admit(self, inspector: int) -> list[socket.socket]:
        """Return a new inspector's ends, by its number: for packets, and for connections that it gives back.

        Raises OSError while inspectors have as many as may be: their other ends are descriptors of netd's.
        """
        if max(len(self._packets), len(self._handover)) >= MOST_CONNECTIONS:
            raise OSError(errno.EMFILE, "inspectors have as many ends as may be")
        return [self._packets.admit(inspector), self._handover.admit()]

    def forget_client(self) -> None:
        """Take back what the client had: trust, authority, leases, connections, holds."""
        self._knows_tables = False
        self._policies.forget_client()
        self._holds.drop_all()

    async def watch(self) -> None:
        """Look for changes by others, for ever: should an announcement be lost, this is the latest."""
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            self._watch.check()

    def answer(self, verb: str, untrusted: object) -> Answer | Awaitable[Answer]:
        """Carry out one request; the long ones have to be awaited. Raises NetdError."""
        args = Arguments(untrusted)
        if verb == Verb.LOAD_POLICY:
            return self._load(args)
        if verb == Verb.CHECK_POLICY:
            return self._check(args)
        if verb == Verb.SNAPSHOT:
            return self._snapshot()
        try:
            handler = self._handlers[Verb(verb)]
        except (ValueError, KeyError):
            raise malformed(f"unknown verb {verb[:40]!r}") from None
        try:
            return handler(args) or {}
        except NetdError as error:
            # a table changed behind our back is put back before the request is given up
            if error.code != NetdCode.KERNEL.value or not self._watch.check():
                raise
            return handler(args) or {}

    async def _load(self, args: Arguments) -> Answer:
        policy = await asyncio.to_thread(args.policy)  # a large one takes longer than a renewal may wait
        removed = await self._policies.load(policy)
        with contextlib.suppress(NetdError):  # it is in force; the next regular look tries again
            self._look_around()
        return {"removed": list(removed)}

    async def _check(self, args: Arguments) -> Answer:
        await self._policies.check(await asyncio.to_thread(args.policy))
        return {}

    async def _snapshot(self) -> Answer:
        self._state.loaded()
        return await asyncio.to_thread(lambda: snapshot_to_wire(take_snapshot(len(self._holds))))

    def _read_back(self) -> Answer:
        self._state.loaded()
        return {"differences": self._watch.differences()}

    def _counters(self) -> Answer:
        self._state.read_counters()
        total = self._state.tally.total(Counter(self._holds.dropped) + Counter(self._packets.dropped))
        return {"counters": {reason.value: packets for reason, packets in total.items()}}

    def _look_around(self) -> None:
        """Tell what somebody changed while a policy was being loaded, and a new client also what was there before it."""
        if not self._knows_tables:
            self._watch.forget_foreign_tables()
        self._watch.check()
        if not self._knows_tables:
            self._watch.report_foreign_tables()
            self._knows_tables = True

    def _announced(self) -> None:
        self._announcements.drain()
        with contextlib.suppress(NetdError):  # the next regular look tries again
            self._watch.check()

    def _samples(self) -> None:
        for sample in self._log.receive():
            self._emit(sample)
        if self._log.lost != self._lost_samples:
            self._emit(Lost("drop-samples", self._log.lost - self._lost_samples))
            self._lost_samples = self._log.lost
