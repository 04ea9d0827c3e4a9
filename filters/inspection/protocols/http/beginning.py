"""Look at how a body begins: refused is what some receivers take for the rest of a head, or for the next message."""

import re

from filters.inspection.finding import Direction, Refusal
from filters.inspection.protocols.http.framing import Extent

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_LINE = _TOKEN + rb"[\t ]*:[^\n]*\n"
# fields, one of which says what a body is
_HEAD_GOES_ON = re.compile(
    rb"(?:" + _LINE + rb")*?(?:transfer-encoding|content-(?:encoding|length))[\t ]*:", re.IGNORECASE
)
_MAY_GO_ON = re.compile(rb"(?:" + _LINE + rb")*(?:" + _TOKEN + rb")?[\t ]*(?::[^\n]*)?")
_START_LINE = (  # by direction
    re.compile(_TOKEN + rb"[\t ]+[^\t\r\n ]+[\t ]+HTTP/1\.[01][\t ]*\r?\n"),
    re.compile(rb"HTTP/1\.[01][\t ]+[1-5][0-9][0-9](?![0-9A-Za-z])"),
)
_WITHIN = 1024  # bytes, behind blanks
_ENOUGH = (8 << 10, 16)  # bytes of a first line: so much of a request's is taken by servers
_MOST = max(_ENOUGH)
_BLANKS = b"\t\n\r "


class Beginning:
    """The first bytes of one body, as they are transferred."""

    def __init__(self, direction: Direction, extent: Extent) -> None:
        self._start_line, self._enough = _START_LINE[direction], _ENOUGH[direction]
        self._start = bytearray()  # behind blanks
        self._may_be_head = extent is Extent.CLOSE
        self._may_be_message = True

    def look(self, data: bytes) -> None:
        """Take the next bytes; raises Refusal."""
        if not self._may_be_head and not self._may_be_message:
            return
        self._start += data[:_MOST] if self._start else data.lstrip(_BLANKS)[:_MOST]
        if self._may_be_message:
            self._look_for_message()
        if self._may_be_head:
            self._look_for_head()

    def _look_for_message(self) -> None:
        """A server that answers without reading a body reads it as the next request; so do some clients with answers."""
        if len(self._start) < self._enough and b"\n" not in self._start:
            return
        self._may_be_message = False
        if self._start_line.match(self._start):
            raise Refusal(
                "http-body-message", f"a body that is a message itself: {bytes(self._start[:60])!r}"
            )

    def _look_for_head(self) -> None:
        """A body without a length that begins with fields: to who ends heads elsewhere they are the head's."""
        if _HEAD_GOES_ON.match(self._start, 0, _WITHIN):
            raise Refusal("http-field", f"a field behind the head's end: {bytes(self._start[:60])!r}")
        self._may_be_head = len(self._start) < _WITHIN and bool(_MAY_GO_ON.fullmatch(self._start))
