"""Read the version exchange of SSH (RFC 4253 section 4.2); what follows is ciphertext."""

import re

from filters.inspection.finding import Direction, Refusal
from filters.inspection.limits import Limits
from filters.inspection.parser import Sink

_BANNER = re.compile(rb"SSH-(2\.0|1\.99)-([\x21-\x7e]+)(?: ([\x20-\x7e]*))?\r?\n")
_LONGEST = 255


class Ssh:
    """See Parser."""

    protocol = "ssh"

    def __init__(self, sink: Sink, limits: Limits) -> None:
        self._sink, self._limits = sink, limits
        self._buffers = (bytearray(), bytearray())
        self._known = [False, False]

    def feed(self, direction: Direction, data: bytes) -> None:
        """See Parser."""
        if self._known[direction]:
            self._sink.text(direction, "stream", data)  # it need not be ciphertext
            return
        buffer = self._buffers[direction]
        buffer += data
        end = buffer.find(b"\n")
        if end < 0:
            if len(buffer) > _LONGEST:
                raise Refusal("ssh-banner", f"no line end in the first {_LONGEST} bytes")
            return
        match = _BANNER.fullmatch(buffer[: end + 1])
        if not match or end >= _LONGEST:
            raise Refusal("ssh-banner", f"expected SSH-2.0-software; got {bytes(buffer[:60])!r}")
        self._sink.text(direction, "banner", bytes(buffer[: end + 1]))
        self._sink.fields(direction, "ssh", lambda: [("ssh.proto", match[1]), ("ssh.software", match[2])])
        self._sink.note(
            "ssh", end=direction.name.lower(), version=match[1].decode(), software=match[2].decode()
        )
        self._known[direction] = True
        rest = bytes(buffer[end + 1 :])
        buffer.clear()
        if rest:
            self._sink.text(direction, "stream", rest)

    def end(self, direction: Direction) -> None:
        """See Parser."""

    def waiting(self, direction: Direction) -> int:
        """See Parser."""
        return len(self._buffers[direction])
