"""A stream nobody knows: its bytes are scanned as they are, both ways."""

import re
from typing import Final

from filters.inspection.finding import Direction, Refusal
from filters.inspection.parser import Sink
from filters.inspection.protocols.identify import LONGEST, Guess, guess, late

_GREETING: Final = b"220"
# servers of HTTP take far more for a request than begins as one: this makes the difference to who scans the bytes as they are
_CODED: Final = re.compile(rb"[\t ]*(?:content|transfer)-encoding[\t ]*:", re.IGNORECASE)
# PROXY protocol, version 2 and 1: another stream begins behind it
_PROXIED: Final = b"\r\n\r\n\0\r\nQUIT\n"
_PROXIED_LINE: Final = re.compile(rb"PROXY (?:TCP[46] |UNKNOWN)[^\r\n]{0,93}\r?\n")
_PROXIED_WORD: Final = b"PROXY "
_PROXIED_MOST: Final = 107 + LONGEST
LOOKED: Final = (
    64 << 10
)  # bytes of the client: mail servers bear a few lines of a few KiB that they don't understand


class Opaque:
    """See Parser. Nothing can be wrong with such a stream, unless it shows late that it is none.

    That matters until the server has spoken: by then its own first bytes say what it is.
    """

    protocol = "opaque"

    def __init__(self, sink: Sink, *, from_start: bool = False, blindly: bool = False) -> None:
        """Take the sink; unless `from_start`, somebody has looked at the client's first piece already. blindly: nothing is refused."""
        self._sink = sink
        self._looked = from_start
        self._line = bytearray()  # of the client, as far as it came
        self._is_first = True
        self._lines = 0  # that were whole
        self._left = 0 if blindly else LOOKED
        self._begin = b""  # the client's first bytes
        self._in_head, self._has_spoken = True, False  # no empty line came yet; behind another one
        self._answer = b""  # the server's first bytes

    def feed(self, direction: Direction, data: bytes) -> None:
        """See Parser."""
        self._sink.text(direction, "stream", data)
        if direction is Direction.TO_SERVER:
            seen = self._look(data) if self._left else None
            if seen and self._looked:
                raise Refusal("protocol-mismatch", f"what does not begin as {seen.value} goes on as that")
            self._looked = True
        elif self._left:
            self._answer += data[: len(_GREETING)]
            if not _GREETING.startswith(self._answer[: len(_GREETING)]):
                self._stop()

    def _refuse_coded(self, lines: bytes) -> None:
        """Refuse what a lenient server may take for a request whose body is coded: its first lines say so, up to an empty one."""
        for line in lines.split(b"\n")[:-1] if self._in_head else ():
            if _CODED.match(line):
                raise Refusal(
                    "protocol-mismatch", "what does not begin as HTTP has a coded body all the same"
                )
            if not line.strip() and self._has_spoken:
                self._in_head = False
                return
            self._has_spoken = self._has_spoken or bool(line.strip())

    def _refuse_proxied(self, data: bytes) -> None:
        """Refuse what a proxy sends on for another: known streams behind its line, all behind its binary header."""
        begins = (self._begin + data[: len(_PROXIED_WORD)]).startswith(_PROXIED_WORD)
        most = _PROXIED_MOST if begins else len(_PROXIED)
        if len(self._begin) >= most:
            return
        self._begin += data[: most - len(self._begin)]
        line = _PROXIED_LINE.match(self._begin)
        inner = guess(Direction.TO_SERVER, self._begin[line.end() :]) if line else None
        if self._begin == _PROXIED or inner not in {None, Guess.OTHER}:
            raise Refusal("protocol-mismatch", "the PROXY protocol: another stream begins behind it")

    def _look(self, data: bytes) -> Guess | None:
        """Return what the client's lines show, once; raises Refusal."""
        self._refuse_proxied(data)
        data = data[: self._left]
        self._left -= len(data)
        end = data.rfind(b"\n") + 1
        lines = bytes(self._line) + data[:end] if end else b""
        if end:
            self._line.clear()
        self._line += data[end:]
        self._refuse_coded(lines)
        seen = late(lines, self._lines, are_first=self._is_first)
        self._lines += lines.count(b"\n")
        self._is_first = self._is_first and not lines.strip()
        if seen or not self._left:
            self._stop()
        return seen

    def _stop(self) -> None:
        self._left = 0
        self._line.clear()

    def end(self, direction: Direction) -> None:
        """See Parser."""

    def waiting(self, direction: Direction) -> int:
        """See Parser."""
        return 0
