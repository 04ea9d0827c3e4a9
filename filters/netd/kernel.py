"""Change and read our table: elements by raw netlink, rules by libnftables, generations counted."""

import asyncio
from collections.abc import Sequence
from typing import Final

from filters.netd import nf_tables as nft
from filters.netd.elements import Element
from filters.netd.fingerprint import Fingerprint, describe
from filters.netd.netlink_socket import NetlinkSocket
from filters.netd.nftables_adapter import Libnftables
from filters.netd.probe import probe
from filters.ruleset.names import (
    HOLD_QUEUE_NUMBER,
    INSPECTION_QUEUE_NUMBER,
    STATIC_SETS,
    ChainName,
    MapName,
    SetName,
)

Step = nft.Change | nft.Flush
_STRUCTURE: Final = (nft.Nft.GETTABLE, nft.Nft.GETCHAIN, nft.Nft.GETRULE, nft.Nft.GETSET)
_WRAP: Final = 1 << 32
_QUEUES: Final = (
    (ChainName.HOLD_QUEUE, HOLD_QUEUE_NUMBER),
    (ChainName.INSPECTION_QUEUE, INSPECTION_QUEUE_NUMBER),
)


def read_set(
    netlink: NetlinkSocket, place: SetName | MapName, *, steady: bool = True
) -> list[nft.KernelElement]:
    """Read the elements of a set or map; raises NetdError `kernel`."""
    answers = netlink.dump(nft.dump_elements(place, netlink.sequence()), f"read {place}", steady=steady)
    return [one for message in answers for one in nft.read_elements(message.payload)]


class KernelTable:
    """`table inet quotegate` of this network namespace.

    Every commit, whoever makes it, raises the kernel's generation by one; an empty one does not. So as long
    as `generation()` equals `expected` nobody else has changed packet filtering here. All changes made
    through this class must therefore change something, except those of `apply_idle`.
    """

    def __init__(self) -> None:
        self._netlink = NetlinkSocket()
        self._libnftables = Libnftables()
        self.features = probe(self._libnftables)
        self.expected = self.generation()

    def close(self) -> None:
        """Close the socket; the table stays."""
        self._netlink.close()

    def generation(self) -> int:
        """Ask for the current generation."""
        sequence = self._netlink.sequence()
        answers = self._netlink.execute(nft.get_generation(sequence), sequence, "generation")
        return nft.read_generation(answers[0].payload)

    def apply(self, steps: Sequence[Step]) -> None:
        """Carry out a batch, whole or not at all; raises NetdError `kernel`."""
        if not steps:
            return
        raw, last = nft.batch(steps, self._netlink.sequence(len(steps) + 2))
        self._netlink.execute(raw, last, "change elements")
        self._committed()

    def apply_idle(self, steps: Sequence[Step]) -> bool:
        """Carry out a batch that may change nothing; returns False when the generation was off before."""
        quiet = self.generation() == self.expected
        raw, last = nft.batch(steps, self._netlink.sequence(len(steps) + 2))
        self._netlink.execute(raw, last, "change elements")
        if quiet:
            self.expected = self.generation()
        return quiet

    def renew(self, elements: Sequence[Element]) -> None:
        """Add elements or give them a new timeout."""
        self.apply(nft.add(*elements) if self.features.timeout_update else nft.replace(*elements))

    def run(self, text: str) -> None:
        """Run one transaction of nft text that changes something; raises NetdError `kernel`."""
        self._libnftables.run(text)
        self._committed()

    async def run_beside(self, text: str) -> None:
        """Do the same in another thread, so that the event loop goes on."""
        await asyncio.to_thread(self._libnftables.run, text)
        self._committed()  # counted here: two threads must not count at once

    async def check_beside(self, text: str) -> None:
        """Ask, in another thread, whether the kernel would take this text; raises NetdError `kernel`."""
        await asyncio.to_thread(self._libnftables.check, text)

    def insert_queue_rules(self) -> None:
        """Put the queues in front of their chains' drops, where the kernel has no `nft queue`."""
        for chain, number in _QUEUES:
            raw, last = nft.queue_rule_batch(chain, number, self._netlink.sequence(3))
            self._netlink.execute(raw, last, "insert a queue rule")
            self._committed()

    def fingerprint(self) -> Fingerprint:
        """Read back flags of the table, chains, rules, set declarations and static elements; empty when the table is missing."""
        structure = {
            kind: [
                message.payload
                for message in self._netlink.dump(
                    nft.dump_objects(kind, self._netlink.sequence()), "read back"
                )
            ]
            for kind in _STRUCTURE
        }
        found = describe(structure, {})
        places = [place for place in STATIC_SETS if f"set {place}" in found]
        return describe(structure, {place: self.elements(place) for place in places})

    def elements(self, place: SetName | MapName) -> list[nft.KernelElement]:
        """Read the elements of a set or map."""
        return read_set(self._netlink, place)

    def counters(self) -> dict[str, int]:
        """Read the named counters (packets)."""
        answers = self._netlink.dump(
            nft.dump_counters(self._netlink.sequence()), "read counters", steady=False
        )
        return dict(nft.read_counter(message.payload) for message in answers)

    def tables(self) -> frozenset[tuple[int, str]]:
        """Read the names of all tables as (family, name)."""
        answers = self._netlink.dump(nft.dump_tables(self._netlink.sequence()), "read tables")
        return frozenset(nft.read_table(message.payload) for message in answers)

    def _committed(self) -> None:
        # the kernel never uses generation 0
        self.expected = (self.expected + 1) % _WRAP or 1
