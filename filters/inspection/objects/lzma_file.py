"""Read LZMA files (`.lzma`), which have no sign: five numbers, then what is packed. Source: lzma-file-format.txt of XZ Utils."""

import contextlib
import lzma
from collections.abc import Iterator
from typing import Final

_HEAD: Final = 13  # bytes: properties, window, size
_TRIED: Final = 1 << 16  # bytes of what may be such a file
_BLOCK: Final = 1 << 20
_LEAST: Final = 4096  # bytes: every reader has a window at least this large
_ANY, _UNKNOWN = (1 << 32) - 1, (1 << 64) - 1


def is_lzma(data: bytes) -> bool:
    """Tell whether the data is an LZMA file: by its numbers, as XZ Utils guess it, then by trying."""
    window, size = int.from_bytes(data[1:5], "little"), int.from_bytes(data[5:_HEAD], "little")
    if len(data) < _HEAD + 5 or data[0] >= 225 or data[_HEAD] or not size or 1 << 38 <= size != _UNKNOWN:
        return False
    # a power of two, or two of them that follow each other; XZ Utils take a small one for 4096
    if window != _ANY and window & (window - 1) not in {0, window // 3 * 2}:
        return False
    with contextlib.suppress(lzma.LZMAError):
        return bool(_reader(data, _TRIED).decompress(data[_HEAD:_TRIED], 1))
    return False


class LzmaBlocks:
    """What is in an LZMA file, block by block, as far as it can be read. most: of how many bytes."""

    def __init__(self, data: bytes, most: int) -> None:
        self._data, self._most = data, most
        self.is_whole = False

    def __iter__(self) -> Iterator[bytes]:
        """Yield each block."""
        done = 0
        for step in (_BLOCK, 1 << 10, 1):  # an error takes with it what it was met in
            with contextlib.suppress(lzma.LZMAError):
                for block in self._blocks(done, step):
                    yield block
                    done += len(block)
                return
        with contextlib.suppress(
            lzma.LZMAError
        ):  # the last byte comes out with the error, but for who asks for no more
            yield from self._blocks(done, 1, done + 1)
        self.is_whole = False

    def _blocks(self, done: int, step: int, size: int | None = None) -> Iterator[bytes]:
        """Yield what is behind the first bytes, in steps. size: of all, where that is known better than the file tells."""
        reader, packed = _reader(self._data, self._most, size), self._data[_HEAD:]
        while not reader.eof:
            block = reader.decompress(packed, min(done, _BLOCK) or step)
            packed = b""
            if done:
                done -= len(block)
            else:
                yield block
            if not block and reader.needs_input:
                return
        self.is_whole = not reader.unused_data.strip(b"\0")


def _reader(data: bytes, most: int, size: int | None = None) -> lzma.LZMADecompressor:
    """Return what has read a file's head, and takes no more memory than `most` unpacked bytes need."""
    reader = lzma.LZMADecompressor(lzma.FORMAT_ALONE)
    window = min(max(_LEAST, int.from_bytes(data[1:5], "little")), most)
    reader.decompress(
        data[:1]
        + window.to_bytes(4, "little")
        + (data[5:_HEAD] if size is None else size.to_bytes(8, "little"))
    )
    return reader
