"""Look after the audit record: that it is the one we left, that there is room for it, that its head is signed."""

import asyncio
import logging
from collections.abc import Callable

from filters.netd.client import NetdClient
from filters.netd.protocol import Disconnected
from gateway.audit.kept import newest_counter
from gateway.audit.recorder import Recorder
from gateway.audit.spool import START_ROOM, WAY_OUT
from gateway.audit.verify import counter_lost
from gateway.clock import Clock
from gateway.errors import GatewayError
from gateway.events.model import AuditFilling, AuditRecordLost
from gateway.tpmd.client import TpmClient

HEAD_EVERY_S = 1.0
LOOK_AGAIN_S = 1.0
LITTLE_ROOM = 128 << 20  # bytes: from here on it is told that the disk fills
_log = logging.getLogger(__name__)


class RecordKeeper:
    """The record of one running gateway."""

    def __init__(self, recorder: Recorder, tpm: TpmClient, netd: NetdClient, clock: Clock) -> None:
        self._recorder, self._spool = recorder, recorder.spool
        self._tpm, self._netd, self._clock = tpm, netd, clock
        self._told_little_room = False
        self.full = False

    async def wait_for_room(self, closed: Callable[[], None]) -> None:
        """Return once a start can be recorded; where it can't, call `closed` and wait for an operator's help.

        Nobody is trusted and nothing is changed meanwhile. Raises GatewayError `netd-gone`.
        """
        while (room := self._spool.room()) < START_ROOM:
            if not self.full:
                self.full = True
                _log.error(
                    "the audit record's disk has %d MiB left: nobody is trusted; %s", room >> 20, WAY_OUT
                )
                closed()
            while not self._netd.events.empty():  # nobody else takes them yet
                if isinstance(self._netd.events.get_nowait(), Disconnected):
                    raise netd_gone()
            await asyncio.sleep(LOOK_AGAIN_S)
        self.full = False

    async def compare(self, *, first_start: bool) -> None:
        """Record for good that the audit record is not the one this gateway left."""
        signed, newest = await self._tpm.read_counter(), newest_counter(self._spool.path)
        if not first_start and (self._spool.head[0] == 0 or counter_lost(signed, newest)):
            await self._recorder.record(AuditRecordLost(signed, newest))

    async def watch_room(self) -> None:
        """Say in time that the disk fills: once, until there is plenty of room again."""
        room = await asyncio.to_thread(self._spool.room)
        if room < LITTLE_ROOM and not self._told_little_room:
            self._told_little_room = True
            self._recorder.note(AuditFilling(room >> 20, WAY_OUT))
        elif room >= 2 * LITTLE_ROOM:
            self._told_little_room = False

    async def sign_heads(self) -> None:
        """Have the TPM sign the head of what is new, every second."""
        signed = -1
        while True:
            await asyncio.sleep(HEAD_EVERY_S)
            sequence, head = self._spool.head
            if sequence != signed:
                signed_head = await self._tpm.sign_audit_head(sequence, head, int(self._clock.wall() * 1000))
                await asyncio.to_thread(self._spool.save_head, signed_head)
                signed = sequence


def netd_gone() -> GatewayError:
    """Make the error with which the service ends when netd has."""
    return GatewayError("netd-gone", "netd is gone; nobody is trusted until it is back")
