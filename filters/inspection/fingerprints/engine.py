"""Recognise the documents of a set, in streams and in bytes that stand alone."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from filters.inspection.finding import Finding
from filters.inspection.fingerprints.fragments import Chooser, Names, Places, Reader, covered
from filters.inspection.fingerprints.index import Index
from filters.inspection.fingerprints.markup import is_markup, plain
from filters.inspection.fingerprints.print_set import PrintSet
from filters.inspection.fingerprints.recoded import in_utf8
from filters.inspection.fingerprints.tally import Match, Tally
from filters.reason import DropReason


class Watch:
    """One direction of a connection.

    Each channel is read by itself, but all count together: who sends a document in messages of some hundred bytes
    each gains nothing.
    """

    def __init__(self, chooser: Chooser, index: Index) -> None:
        self._chooser, self._index = chooser, index
        self._tally = Tally(index)
        self._readers: dict[str, tuple[Reader, int]] = {}  # with how many bytes of the channel were read
        self._clock = 0  # bytes of all channels

    def scan(self, channel: str, data: bytes) -> list[Finding]:
        """Return what is recognised with the next bytes of a channel."""
        found: list[Finding] = []
        reader, read = self._readers.get(channel) or (Reader(self._chooser), 0)
        for places, names in reader.read(data):
            known = self._index.find(names)
            # a document's fragments are near each other by the bytes of the direction, not of the channel
            found += map(finding, self._tally.see(places[known] + (self._clock - read), names[known]))
        self._clock += len(data)
        self._readers[channel] = reader, read + len(data)
        return found

    def fresh(self, channel: str) -> None:
        """Say that what follows on a channel has nothing to do with what came before."""
        self._readers.pop(channel, None)


class Engine:
    """A set, ready to be looked for. Immutable."""

    def __init__(self, prints: PrintSet) -> None:
        self._chooser, self._index = Chooser(prints.secret), Index(prints)

    @property
    def recognises(self) -> int:
        """How many documents can be recognised."""
        return len(self._index.documents)

    def watch(self) -> Watch:
        """Return what watches one direction of a connection."""
        return Watch(self._chooser, self._index)

    def inside(self, data: bytes) -> Iterator[Finding]:
        """Yield what is recognised in a file or part, in UTF-8 too, and without marks where there are some (XML, HTML)."""
        found = self.whole(data)
        if not found and (recoded := in_utf8(data)):
            data = recoded
            found = self.whole(data)
        if not found and is_markup(data):
            found = self.whole(plain(data))
        yield from map(finding, found)

    def whole(self, data: bytes) -> list[Match]:
        """Return which documents are recognised in bytes that stand alone, and how much of them is there."""
        tally = Tally(self._index)
        matches: tuple[Match, ...] = ()
        places, names = [np.empty(0, np.intp)], [np.empty(0, np.uint64)]
        for some, theirs in Reader(self._chooser).read(data):
            known = self._index.find(theirs)
            if len(known):
                places.append(some[known])
                names.append(theirs[known])
                matches = matches or tally.see(places[-1], names[-1])
        if not matches:
            return []
        all_places, all_names = np.concatenate(places), np.concatenate(names)
        return [
            self._counted(match, document, all_places, all_names)
            for match, document in zip(matches, tally.matched, strict=True)
        ]

    def _counted(self, match: Match, document: int, places: Places, names: Names) -> Match:
        """Count all there is of a document, not only what was enough for an alarm."""
        own = np.isin(names, self._index.counted[document])
        return replace(match, fragments=len(np.unique(names[own])), bytes=covered(np.sort(places[own])))


def finding(match: Match) -> Finding:
    """Return a match as a finding. It has numbers, and nothing of the content."""
    also = "".join(f"; {count} of them stand in {name} too" for name, count in match.shared[:3])
    return Finding(
        DropReason.DATA_LEAK,
        f"fingerprints.{match.document}",
        f"{match.bytes} bytes in {match.fragments} fragments are those of the protected document {match.document}{also}",
        evidence=f"{match.fragments} of {match.of} fragments, {match.bytes} bytes",
    )
