"""Count what was seen of each document, and say when it is enough."""

from dataclasses import dataclass

import numpy as np

from filters.inspection.fingerprints.fragments import Names, Places, covered
from filters.inspection.fingerprints.index import Index
from filters.inspection.fingerprints.parameters import NEAR


@dataclass(frozen=True, slots=True)
class Match:
    """So much of a document was seen: nothing of what it says.

    of: how many fragments the document has. shared: other documents with at least half of what was seen, and how many.
    """

    document: str
    fragments: int
    of: int
    bytes: int
    shared: tuple[tuple[str, int], ...] = ()


class Tally:
    """What was seen last, in places that only grow. It says once what it has to say: then the flow has ended.

    For each document fewer fragments are remembered than make an alarm.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._seen: dict[int, dict[int, int]] = {}  # document: fragment: place; the latest is last
        self.matched: tuple[int, ...] = ()

    def see(self, places: Places, names: Names) -> tuple[Match, ...]:
        """Take fragments that documents have; return what is recognised by them."""
        for place, name in zip(places.tolist(), names, strict=True):
            if self.matched:
                break
            owners = self._index.owners(name)
            for one in owners:
                self._note(one, place, int(name))
            enough = [one for one in owners if len(self._seen[one]) >= self._index.needed(one)]
            if enough:
                self.matched = tuple(enough)
                return tuple(self._match(one) for one in enough)
        return ()

    def _note(self, document: int, place: int, name: int) -> None:
        seen = self._seen.setdefault(document, {})
        seen.pop(name, None)
        seen[name] = place
        while place - next(iter(seen.values())) > NEAR:
            del seen[next(iter(seen))]

    def _match(self, document: int) -> Match:
        seen = self._seen[document]
        shared = [
            (self._index.documents[other].name, len(seen.keys() & theirs.keys()))
            for other, theirs in self._seen.items()
            if other != document and 2 * len(seen.keys() & theirs.keys()) >= len(seen)
        ]
        places = np.sort(np.array(list(seen.values()), np.intp))
        return Match(
            self._index.documents[document].name,
            len(seen),
            self._index.sizes[document],
            covered(places),
            tuple(sorted(shared)),
        )
