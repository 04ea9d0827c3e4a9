"""Undo one coding or a stack of them, piece by piece, strictly: what receivers read differently is refused."""

import zlib
from collections.abc import Callable, Sequence
from typing import Protocol

import brotli
import zstandard

from filters.inspection.coding.hidden import Tail
from filters.inspection.finding import LimitHit, Refusal
from filters.inspection.limits import Limits

PIECE = 1 << 18  # at most this much comes out of one step, so that a bomb is seen before it fills memory
_GZIP, _ZLIB = 31, 15
_ZSTD_HEADER = 18  # bytes at most
_EXTRA_FIELD, _FLAGS = 0x04, 3  # RFC 1952 section 2.3.1, and where the flags stand


class Decoder(Protocol):
    """Undo one coding."""

    def feed(self, data: bytes, room: int) -> bytes:
        """Take what there is and return at most `room` bytes; call again with b"" while `hungry` is false."""

    @property
    def hungry(self) -> bool:
        """Tell whether all input was used."""

    def finish(self) -> None:
        """Say that no more comes; raises Refusal when the coding is not complete."""


class Zlib:
    """gzip (RFC 1952, one member) or deflate (RFC 1950: with its zlib header, as RFC 9110 section 8.4.1.2 says)."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._state = zlib.decompressobj(_GZIP if name == "gzip" else _ZLIB)
        self._left = b""
        self._start = b""  # the first bytes

    def feed(self, data: bytes, room: int) -> bytes:
        """See Decoder."""
        self._refuse_other_readings(data)
        data = self._left + data
        if data and self._state.eof:
            raise Refusal("coding-trailing-data", f"{len(data)} bytes after the end of the {self._name} data")
        try:
            out = b"" if self._state.eof else self._state.decompress(data, room)
        except zlib.error as error:
            raise Refusal("coding-broken", f"not {self._name}: {error}") from error
        self._left = self._state.unconsumed_tail
        if self._state.unused_data:
            raise Refusal(
                "coding-trailing-data",
                f"{len(self._state.unused_data)} bytes after the end of the {self._name} data",
            )
        return out

    def _refuse_other_readings(self, data: bytes) -> None:
        """Refuse what some receivers begin to inflate elsewhere.

        gzip with an extra field: browsers have read its length wrong (Mozilla bug 1244535), and no server sends one.
        Deflate that is well-formed without its header too: then the header is a stored block's beginning.
        """
        if len(self._start) == 5:
            return
        self._start += data[: 5 - len(self._start)]
        if self._name == "gzip":
            if len(self._start) > _FLAGS and self._start[_FLAGS] & _EXTRA_FIELD:
                raise Refusal(
                    "coding-broken", "gzip with an extra field: receivers disagree about where it ends"
                )
            return
        length, turned = (int.from_bytes(self._start[at : at + 2], "little") for at in (1, 3))
        if len(self._start) == 5 and length ^ turned == 0xFFFF and not self._start[0] & 7:
            raise Refusal("coding-broken", "deflate that can be read with and without a zlib header")

    @property
    def hungry(self) -> bool:
        """See Decoder."""
        return not self._left

    def finish(self) -> None:
        """See Decoder."""
        if not self._state.eof:
            raise Refusal("coding-incomplete", f"the {self._name} data ends too early")


class Brotli:
    """br (RFC 7932)."""

    def __init__(self) -> None:
        self._state = brotli.Decompressor()
        self._began = False

    def feed(self, data: bytes, room: int) -> bytes:
        """See Decoder."""
        if data and self._began and self._state.is_finished():
            raise Refusal("coding-trailing-data", "bytes after the end of the br data")
        self._began = self._began or bool(data)
        try:
            return bytes(self._state.process(data, output_buffer_limit=room))
        except brotli.error as error:
            raise Refusal("coding-broken", "not br, or bytes after its end") from error

    @property
    def hungry(self) -> bool:
        """See Decoder."""
        return not self._began or self._state.is_finished() or self._state.can_accept_more_data()

    def finish(self) -> None:
        """See Decoder."""
        if not self._state.is_finished():
            raise Refusal("coding-incomplete", "the br data ends too early")


class Zstd:
    """zstd (RFC 8878, one frame; window up to 8 MiB as RFC 9659 says)."""

    def __init__(self) -> None:
        self._state = zstandard.ZstdDecompressor(max_window_size=8 << 20).decompressobj()
        self._start, self._out = b"", 0

    def feed(self, data: bytes, room: int) -> bytes:
        """See Decoder; zstandard has no output limit, so input goes in by small steps (one block is ≤ 128 KiB)."""
        if data and self._state.eof:
            raise Refusal("coding-trailing-data", "bytes after the end of the zstd data")
        self._start += data[: _ZSTD_HEADER - len(self._start)]
        try:
            out = bytes(self._state.decompress(data)) if data else b""
        except zstandard.ZstdError as error:
            raise Refusal("coding-broken", f"not zstd: {error}") from error
        self._out += len(out)
        if self._state.unused_data:
            raise Refusal("coding-trailing-data", "bytes after the end of the zstd data")
        return out

    @property
    def hungry(self) -> bool:
        """See Decoder."""
        return True

    def finish(self) -> None:
        """See Decoder."""
        if not self._state.eof:
            raise Refusal("coding-incomplete", "the zstd data ends too early")
        said = zstandard.frame_content_size(self._start)  # an empty last block keeps libzstd from comparing
        if said not in {-1, self._out}:
            raise Refusal("coding-broken", f"zstd that says {said} bytes and holds {self._out}")


CODINGS: dict[str, Callable[[], Decoder]] = {
    "gzip": lambda: Zlib("gzip"),
    "x-gzip": lambda: Zlib("gzip"),
    "deflate": lambda: Zlib("deflate"),
    "br": Brotli,
    "zstd": Zstd,
}
_STEP = {"zstd": 256}  # how much input at a time, where output can't be limited


class Stack:
    """A stack of codings, undone in reverse order, under the limits of ratio and depth."""

    def __init__(self, names: Sequence[str], limits: Limits) -> None:
        """Raises Refusal for a coding nobody knows and LimitHit for too many."""
        if len(names) > limits.codings:
            raise LimitHit("codings", limits.codings, " codings on one message")
        for name in names:
            if name not in CODINGS:
                raise Refusal("coding-unknown", f"expected one of {', '.join(CODINGS)}; got {name[:40]!r}")
        self._decoders: list[tuple[Decoder, int]] = [
            (CODINGS[name](), _STEP.get(name, PIECE)) for name in reversed(names)
        ]
        self._names = tuple(reversed(names))
        self._limits, self._in = limits, 0
        self._out = [0 for _ in names]  # bytes that came out of each decoder
        self._tails, self._shown = [Tail() for _ in names], Tail()
        self._given: list[list[bytes]] = [[] for _ in names]  # to each decoder, with the latest piece

    @property
    def undoes(self) -> bool:
        """Tell whether anything is undone at all."""
        return bool(self._decoders)

    def feed(self, data: bytes) -> list[bytes]:
        """Return what comes out, in pieces; raises Refusal."""
        if not self._decoders:
            return [data] if data else []
        self._in += len(data)
        for given in self._given:
            given.clear()
        pieces: list[bytes] = []
        self._through(0, data, pieces)
        for tail, given in zip(self._tails, self._given, strict=True):
            for one in given:
                tail.add(one)
        return pieces

    def given(self) -> list[tuple[str, list[bytes]]]:
        """Return each coding, the outermost first, and the bytes that it was undone from with the latest piece, in pieces."""
        return [(name, list(one)) for name, one in zip(self._names, self._given, strict=True)]

    def _through(self, level: int, data: bytes, pieces: list[bytes]) -> None:
        if level:
            self._count(level - 1, len(data))
        if level == len(self._decoders):
            self._shown.add(data)
            pieces.append(data)
            return
        self._given[level].append(data)
        decoder, step = self._decoders[level]
        for start in range(0, len(data), step):
            out = decoder.feed(data[start : start + step], PIECE)
            while out or not decoder.hungry:
                if out:
                    self._through(level + 1, out, pieces)
                if decoder.hungry and len(out) < PIECE:
                    break
                out = decoder.feed(b"", PIECE)

    def _count(self, level: int, size: int) -> None:
        self._out[level] += size
        out = self._out[level]
        if out > self._limits.ratio_from and out > self._limits.ratio * max(self._in, 1):
            raise LimitHit("ratio", self._limits.ratio, f" bytes decoded per byte, {out} from {self._in}")

    def finish(self) -> None:
        """Say that the message ended; raises Refusal when a coding is not complete, or hides what decoding does not show."""
        if any(tail.hides_zip(self._shown) for tail in self._tails):
            raise Refusal(
                "coding-archive",
                "the coded bytes are a zip as they are; expected what they decode to, and no more",
            )
        if self._in:
            for decoder, _ in self._decoders:
                decoder.finish()
