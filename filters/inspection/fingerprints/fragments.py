"""Choose which fragments of a text stand for it, and name them: numpy over whole buffers, keyed by a set's secret.

A fragment is GRAM bytes in a row. Winnowing (Schleimer, Wilkerson, Aiken: "Winnowing: local algorithms for document
fingerprinting", SIGMOD 2003) keeps of every WINDOW neighbours the one with the smallest hash. What is kept depends
on nothing but the bytes in the window, so two texts that share GRAM + WINDOW - 1 bytes share a kept fragment: this
is the guarantee, and sampling by `hash mod p`, which is faster, has none.

Two hashes, for two purposes. The one that chooses is computed for every byte: a polynomial over 32-bit words, by
doubling (`H_2n[i] = H_n[i] * P**n + H_n[i+n]`), then mixed. It is never stored: it is linear, so that whoever knew
it could join guesses of a fragment's halves. The one that names a kept fragment is stored: its state goes over the
fragment's words twice, so that from the secret and the name only guesses of all GRAM bytes at once can be tried.
"""

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from filters.inspection.fingerprints.parameters import GRAM, REACH, VARIED, WINDOW

Places = NDArray[np.intp]
Names = NDArray[np.uint64]

_WORDS: Final = GRAM // 8
_ROUNDS: Final = 2
_15, _1, _32 = np.uint32(15), np.uint32(1), np.uint64(32)
_BLOCK: Final = (
    24 << 10
)  # bytes at once: their words are below the 128 KiB from which malloc asks the kernel each time
_PERIOD: Final = 8  # what repeats so soon has too few different bytes to be VARIED


class Chooser:
    """Choose and name fragments under one secret."""

    def __init__(self, secret: bytes) -> None:
        """Derive every constant from `secret` (32 bytes), so that nobody outside can aim at what is kept."""
        drawn = np.frombuffer(
            b"".join(hashlib.blake2b(bytes([one]), key=secret).digest() for one in range(3)), "<u8"
        )
        odd = [int(one) | 1 for one in drawn]
        self._first, self._last = (np.uint32(one & 0xFFFFFFFF) for one in odd[:2])
        self._powers = [
            (1 << one, np.uint32(pow(odd[2], 1 << one, 1 << 32))) for one in range(GRAM.bit_length() - 1)
        ]
        self._start = np.uint64(drawn[3])
        self._factors = [np.uint64(one) for one in odd[4 : 4 + _WORDS * _ROUNDS]]

    def choose(self, data: bytes) -> Places:
        """Return where the fragments begin that are kept in `data`, by windows that lie in it whole."""
        hashes = self._hashes(data)
        smallest = _sliding(np.minimum, hashes, WINDOW)
        # a fragment is kept when it is the smallest of any window it lies in; hashes are never 0
        padded = np.zeros(len(hashes) + WINDOW - 1, np.uint32)
        padded[WINDOW - 1 : len(hashes)] = smallest
        kept: Places = (_sliding(np.maximum, padded, WINDOW) == hashes).nonzero()[0]
        if 8 * len(kept) > len(hashes):  # twice as many as usual: a run of zeros, say, is kept at every byte
            again = (np.diff(kept) <= _PERIOD) & (np.diff(hashes[kept]) == 0)
            kept = kept[np.concatenate(([True], ~again))]
        return kept

    def _hashes(self, data: bytes) -> NDArray[np.uint32]:
        hashes = np.frombuffer(data, np.uint8).astype(np.uint32)
        hashes *= self._first
        for length, power in self._powers:
            longer = hashes[:-length] * power
            longer += hashes[length:]
            hashes = longer
        hashes ^= hashes >> _15
        hashes *= self._last
        hashes |= _1
        return hashes

    def name(self, data: bytes, places: Places) -> Names:
        """Return the stored hashes of the fragments that begin at `places`."""
        words = _cut(data, places).view("<u8")
        state = np.full(len(places), self._start, np.uint64)
        for number, factor in enumerate(self._factors):
            state ^= words[:, number % _WORDS]
            state *= factor
            state ^= state >> _32
        return state


class Reader:
    """One text, in pieces of any size. What it keeps after a byte depends on the bytes up to there alone."""

    def __init__(self, chooser: Chooser) -> None:
        self._chooser = chooser
        self._before = b""  # the last REACH bytes
        self._seen = 0
        self._told: set[int] = set()  # kept already, and in reach of windows to come

    def read(self, data: bytes) -> list[tuple[Places, Names]]:
        """Return the places (from the text's beginning) and names of what is newly kept, in order."""
        found = []
        for start in range(0, len(data), _BLOCK):
            block = self._before + data[start : start + _BLOCK]
            self._seen += len(block) - len(self._before)
            if len(block) > REACH:
                found += self._new(block)
                block = block[-REACH:]
            self._before = block
        return found

    def _new(self, block: bytes) -> list[tuple[Places, Names]]:
        origin = self._seen - len(block)
        places = self._chooser.choose(block)
        fresh = places
        if self._told:
            early = int(places.searchsorted(WINDOW))
            new = [one for one in places[:early].tolist() if one + origin not in self._told]
            fresh = np.concatenate((np.array(new, np.intp), places[early:]))
        horizon = len(block) - REACH
        late = places[places.searchsorted(horizon) :]
        self._told = {one for one in self._told if one >= origin + horizon}
        self._told.update((late + origin).tolist())
        return [(fresh + origin, self._chooser.name(block, fresh))] if len(fresh) else []


def varied(data: bytes, places: Places) -> NDArray[np.bool_]:
    """Tell which fragments have at least VARIED different byte values: only those say something."""
    ordered = np.sort(_cut(data, places), axis=1)
    different = (np.diff(ordered, axis=1) != 0).sum(axis=1) + 1
    found: NDArray[np.bool_] = different >= VARIED
    return found


def covered(places: Places) -> int:
    """Return how many bytes the fragments at these places (in order) cover together."""
    return int(np.minimum(np.diff(places), GRAM).sum()) + GRAM if len(places) else 0


def _cut(data: bytes, places: Places) -> NDArray[np.uint8]:
    """Return the fragments as rows."""
    whole = np.ndarray((len(data) - GRAM + 1,), np.dtype((np.void, GRAM)), data, strides=(1,))
    rows: NDArray[np.uint8] = whole[places].view(np.uint8).reshape(-1, GRAM)
    return rows


def _sliding(extreme: np.ufunc, values: NDArray[np.uint32], width: int) -> NDArray[np.uint32]:
    """Return the extremes of every `width` (a power of two) neighbours."""
    length = 1
    while length < width:
        values = extreme(values[:-length], values[length:])
        length *= 2
    return values
