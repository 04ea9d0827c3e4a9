"""Grant, renew and revoke leases; forget the connections of those that ended."""

import asyncio
import errno
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from filters.errors import NetdError
from filters.flow import FlowKey
from filters.netd import elements
from filters.netd.book import Lease
from filters.netd.conntrack import delete_connections
from filters.netd.nf_tables import Change, Op, add, remove
from filters.netd.state import State, boottime

# A cut connection stays known for this long, so that both ends are told `lease-expired`.
CONNECTION_GRACE_S: Final = 1.5
_PER_BATCH: Final = 2000  # leases: a batch must fit into the socket's buffer


class Leases:
    """The leases of one client."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._cleanups: set[asyncio.Task[None]] = set()

    def close(self) -> None:
        """Give up what is still to be cleaned."""
        for task in self._cleanups:
            task.cancel()

    def grant(self, lease_id: int, key: FlowKey, ttl_ms: int) -> None:
        """Let new connections of a key pass; raises NetdError `not-permitted`, `lease-id-in-use`."""
        found = self._state.check_inspected(lease_id, key)
        now = boottime()
        self.prune(now)
        self._state.book.check_free(lease_id)
        self._write(elements.lease(key, lease_id, ttl_ms), elements.live(lease_id, ttl_ms))
        self._state.book.put(Lease(lease_id, key, now + ttl_ms / 1000, found.offloads))

    def renew(self, lease_id: int, ttl_ms: int) -> None:
        """Extend a lease in force; raises NetdError `no-such-lease`, `not-permitted`."""
        now = boottime()
        lease = self._state.book.get(lease_id, now)
        self._state.check_inspected(lease_id, lease.key)
        renewed = replace(lease, expires_at=now + ttl_ms / 1000)
        self._state.kernel.renew(self._state.book.lease_elements(renewed, now))
        self._state.book.put(renewed)

    def revoke(self, lease_ids: Iterable[int]) -> None:
        """End leases now, established connections too; ids that are not in force are ignored."""
        now = boottime()
        book = self._state.book
        found = [book.leases[one] for one in dict.fromkeys(lease_ids) if one in book.leases]
        if not found:
            return
        for part in range(0, len(found), _PER_BATCH):
            some = found[part : part + _PER_BATCH]
            gone = [one for lease in some for one in book.lease_elements(lease, now)]
            self._state.kernel.apply(remove(*gone))
            for lease in some:
                book.strike(lease.lease_id)
        self._clean_later([lease.lease_id for lease in found])

    def forget(self, lease_ids: Iterable[int]) -> None:
        """Strike out leases that the kernel has no more, and forget their connections."""
        gone = [one for one in lease_ids if one in self._state.book.leases]
        for lease_id in gone:
            self._state.book.strike(lease_id)
        if gone:
            self._clean_later(gone)

    def prune(self, now: float) -> None:
        """Forget what has run out, the connections of those leases too: nobody revokes them any more."""
        if gone := self._state.book.prune(now):
            self._clean_later(gone)

    def _write(self, lease: elements.Element, live: elements.Element) -> None:
        """Add a lease; an older one of the same key loses its place in the map but stays live."""
        fresh = add(lease, live)
        over = [Change(Op.DELETE, lease), *fresh]
        # the older one may expire between two tries
        for steps, expected in ((fresh, errno.EEXIST), (over, errno.ENOENT), (fresh, None)):
            try:
                self._state.kernel.apply(steps)
            except NetdError as error:
                if expected is None or error.params.get("errno") != expected:
                    raise
            else:
                return

    def _clean_later(self, lease_ids: list[int]) -> None:
        task = asyncio.create_task(_forget_connections(lease_ids), name="forget-connections")
        self._cleanups.add(task)
        task.add_done_callback(self._cleanups.discard)


async def _forget_connections(lease_ids: list[int]) -> None:
    await asyncio.sleep(CONNECTION_GRACE_S)
    await asyncio.to_thread(delete_connections, lease_ids)
