"""What a lenient receiver makes of bytes: Python's own HTTP client, and every decoding that the head's labels suggest."""

import gzip
import http.client
import io
import zlib
from collections.abc import Callable

import brotli
import zstandard


class _Socket:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object, **__: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def _inflate(bits: int) -> Callable[[bytes], bytes]:
    def undo(data: bytes) -> bytes:
        out = b""
        while data:
            state = zlib.decompressobj(bits)
            out += state.decompress(data)
            data = state.unused_data
        return out

    return undo


_GUESSES: dict[str, tuple[Callable[[bytes], bytes], ...]] = {
    "gzip": (_inflate(31), gzip.decompress),
    "deflate": (_inflate(15), _inflate(-15)),
    "br": (brotli.decompress,),
    "zstd": (lambda data: zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read(),),
}  # fmt: skip


def body_of(answer: bytes) -> tuple[bytes, str]:
    """Return the body that http.client reads, and what the head says about codings."""
    response = http.client.HTTPResponse(_Socket(answer))  # type: ignore[arg-type]
    try:
        response.begin()
        body = response.read()
    except http.client.IncompleteRead as error:
        body = error.partial
    except (http.client.HTTPException, ValueError, OverflowError, OSError):
        return b"", ""
    labels = [
        value for name, value in response.getheaders() if name.lower().replace("_", "-").endswith("encoding")
    ]
    return body, ",".join(labels).lower()


def readings(answer: bytes) -> set[bytes]:
    """Return every content that a lenient receiver may get: up to two labelled codings undone, in any order."""
    body, labels = body_of(answer)
    found, latest = {body}, {body}
    for _ in range(2):
        latest = {one for data in latest for one in _undone(data, labels)} - found
        found |= latest
    return found


def _undone(data: bytes, labels: str) -> list[bytes]:
    out = []
    for word, ways in _GUESSES.items():
        for way in ways if word in labels else ():
            try:
                out.append(way(data))
            except (zlib.error, OSError, EOFError, brotli.error, zstandard.ZstdError):
                continue
    return out
