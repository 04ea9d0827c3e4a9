"""Look fragments up, and say whose they are."""

import numpy as np

from filters.inspection.fingerprints.fragments import Names, Places
from filters.inspection.fingerprints.parameters import LEAST, NEEDED
from filters.inspection.fingerprints.print_set import PrintSet

_SMALLEST, _LARGEST = 12, 27  # bits of a name that the first look uses
_3, _7, _1 = np.uint64(3), np.uint64(7), np.uint8(1)


class Index:
    """The fragments of a set that count: not those of documents that are common.

    A fragment of several documents counts for each of them: a set may hold two versions of one text.
    """

    def __init__(self, prints: PrintSet) -> None:
        common = np.unique(
            np.concatenate([np.empty(0, np.uint64), *(one.prints for one in prints.documents if one.common)])
        )
        self.documents = [one for one in prints.documents if not one.common]
        counted = [np.setdiff1d(one.prints, common, assume_unique=True) for one in self.documents]
        self.sizes = [len(one) for one in counted]
        self.counted = counted
        names = np.concatenate([np.empty(0, np.uint64), *counted])
        owners = np.repeat(np.arange(len(counted)), self.sizes)
        order = np.argsort(names, kind="stable")
        self._names, self._owners = names[order], owners[order]
        bits = min(_LARGEST, max(_SMALLEST, len(names).bit_length() + 4))
        self._shift = np.uint64(64 - bits)
        # a bit for each beginning of a name, one in twenty set: what passes ends here, most of it
        self._there = np.zeros(1 << (bits - 3), np.uint8)
        slots = self._names >> self._shift
        np.bitwise_or.at(self._there, slots >> _3, _1 << (slots & _7).astype(np.uint8))

    def needed(self, document: int) -> int:
        """Return how many different fragments of a document are an alarm; more than it has for one that never can."""
        return min(NEEDED, self.sizes[document]) if self.sizes[document] >= LEAST else LEAST

    def find(self, names: Names) -> Places:
        """Return which of `names` some document has."""
        slots = names >> self._shift
        maybe: Places = (self._there[slots >> _3] >> (slots & _7).astype(np.uint8) & _1).nonzero()[0]
        if not len(maybe):
            return maybe
        at = np.searchsorted(self._names, names[maybe])
        at[at == len(self._names)] = 0
        found: Places = maybe[self._names[at] == names[maybe]]
        return found

    def owners(self, name: np.uint64) -> list[int]:
        """Return the documents that have a fragment."""
        first, last = (int(np.searchsorted(self._names, name, side)) for side in ("left", "right"))
        return [int(one) for one in self._owners[first:last]]
