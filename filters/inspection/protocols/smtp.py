"""Read SMTP (RFC 5321): commands and replies in step, each message an object.

Bare line ends are refused (CVE-2023-51764), and so is plain text behind STARTTLS (CVE-2011-0411).
"""

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Final

from filters.inspection.coding.line_ends import stray_line_end
from filters.inspection.finding import Direction, LimitHit, Refusal
from filters.inspection.limits import Limits
from filters.inspection.parser import Parser, Sink
from filters.inspection.protocols.tls import Tls

_COMMANDS = {
    b"EHLO", b"HELO", b"LHLO", b"MAIL", b"RCPT", b"DATA", b"BDAT", b"RSET", b"NOOP", b"QUIT", b"VRFY", b"EXPN", b"HELP",
    b"STARTTLS", b"AUTH",
}  # fmt: skip
# what follows depends on the answer
_BLOCKING = {b"DATA", b"AUTH", b"(auth)", b"STARTTLS", b"EHLO", b"HELO", b"LHLO", b"QUIT"}
_GREETINGS = {b"EHLO", b"HELO", b"LHLO"}
# with these a server forgets the message under way, if it accepts them; RSET it always accepts
_NEW = _GREETINGS | {b"RSET", b"MAIL"}
_LAST = b"BDAT LAST"
_NOT_INSIDE = _GREETINGS | {b"MAIL", b"DATA", b"STARTTLS"}
RECIPIENTS: Final = 1000  # of one message; RFC 5321 section 4.5.3.1.8 wants 100 at least
UNANSWERED: Final = 1024  # commands: a message and all its recipients fit
_CHUNK: Final = (1 << 31) - 1  # bytes: some servers count with 32 bits
_REPLY = re.compile(rb"([2-5][0-9]{2})([ -])?([\t \x21-\x7e\x80-\xff]*)")
_END = b"\r\n.\r\n"
_ENVELOPE = {
    b"EHLO": "smtp.helo",
    b"HELO": "smtp.helo",
    b"LHLO": "smtp.helo",
    b"MAIL": "smtp.mail_from",
    b"RCPT": "smtp.rcpt_to",
}
_ADDRESS = re.compile(rb"(?:FROM|TO): *([^ ]*)", re.IGNORECASE)  # with its brackets, as Suricata tells it
_EARLIER: Final = 16  # recipients that are told besides the latest: a rule may name several


@dataclass(slots=True)
class _Client:
    buffer: bytearray = field(default_factory=bytearray)
    in_data: bool = False
    in_auth: bool = False
    at_line_start: bool = True
    chunk_left: int = 0
    chunk_last: bool = False
    open: bool = False


class Smtp:
    """See Parser."""

    protocol = "smtp"

    def __init__(self, sink: Sink, limits: Limits) -> None:
        self._sink, self._limits = sink, limits
        self._client = _Client()
        self._server = bytearray()
        self._asked: deque[bytes] = deque([b"(greeting)"])
        self._inner: Parser | None = None
        self._envelope: dict[str, bytes] = {}  # of the message under way: helo, mail_from, the latest rcpt_to
        self._recipients = 0
        self._earlier: deque[bytes] = deque(maxlen=_EARLIER)
        self._offered = False  # a reply under way says that the server understands BDAT
        self._chunking = False  # the latest such reply said so
        self._refused = False  # the server refused a part of the message under way
        self._for_each = False  # LMTP: each recipient that was accepted is told of the message (RFC 2033)
        self._accepted = 0  # recipients of it
        self._leaves = False  # the server gave up waiting, as Exchange does with 451: it closes

    def feed(self, direction: Direction, data: bytes) -> None:
        """See Parser."""
        if self._inner:
            self._inner.feed(direction, data)
        elif direction is Direction.TO_SERVER:
            self._client.buffer += data
            self._advance()
        else:
            self._server += data
            self._replies()

    def end(self, direction: Direction) -> None:
        """See Parser."""
        if direction is Direction.TO_SERVER and self._client.open and not self._inner:
            raise Refusal("smtp-incomplete", "the connection ended inside a message")

    def waiting(self, direction: Direction) -> int:
        """See Parser."""
        if self._inner:
            return self._inner.waiting(direction)
        return len(self._client.buffer) if direction is Direction.TO_SERVER else len(self._server)

    def _advance(self) -> None:
        client = self._client
        while client.buffer and not self._inner:
            before = len(client.buffer)
            if client.in_data:
                self._data()
            elif client.chunk_left:
                self._chunk()
            elif self._asked and self._asked[-1] in _BLOCKING:  # what comes next depends on an answer
                if len(client.buffer) > self._limits.head:
                    raise LimitHit("head", self._limits.head, " bytes before an answer")
                return
            else:
                self._command()
            if len(client.buffer) == before:
                return

    def _line(self, buffer: bytearray, check: str) -> bytes | None:
        end = buffer.find(b"\r\n")
        line = bytes(buffer if end < 0 else buffer[:end])
        if stray_line_end(line) >= 0 or b"\0" in line or (end >= 0 and b"\r" in line):
            raise Refusal(check, f"expected CRLF; got another line end in {line[:60]!r}")
        if len(line) > 4096:
            raise LimitHit("head", 4096, " bytes in a line")
        if end < 0:
            return None
        del buffer[: end + 2]
        return line

    def _command(self) -> None:
        client = self._client
        line = self._line(client.buffer, "smtp-line-end")
        if line is None:
            return
        self._sink.text(Direction.TO_SERVER, "command", line + b"\r\n")
        if client.in_auth:
            self._ask(b"(auth)")
            return
        verb = line.split(b" ")[0].upper()
        if verb not in _COMMANDS:
            raise Refusal("smtp-command", f"expected a command; got {line[:40]!r}")
        self._leave(verb, line)
        self._ask(verb)
        self._address(verb, line)
        if verb == b"BDAT":
            self._begin_chunk(line)
            if self._client.chunk_last:
                self._asked[-1] = _LAST

    def _ask(self, verb: bytes) -> None:
        if len(self._asked) >= UNANSWERED:
            raise LimitHit("commands", UNANSWERED, " commands without an answer")
        self._asked.append(verb)

    def _leave(self, verb: bytes, line: bytes) -> None:
        """End a message that is given up before its last part: the next one begins with a head of its own."""
        if not self._client.open or verb not in _NOT_INSIDE | {b"RSET"}:
            return
        if line.upper() != b"RSET" and not self._refused:
            raise Refusal("smtp-bdat", f"servers may refuse this inside a message: {line[:40]!r}")
        self._end_message()

    def _address(self, verb: bytes, line: bytes) -> None:
        """Tell what the envelope says, its latest recipient last: to a rule each is an instance of its own."""
        name = _ENVELOPE.get(verb)
        if name is None:
            return
        if verb == b"MAIL":
            self._envelope = {key: value for key, value in self._envelope.items() if key == "smtp.helo"}
            self._recipients = 0
            self._earlier.clear()
        self._recipients += verb == b"RCPT"
        if self._recipients > RECIPIENTS:
            raise LimitHit("recipients", RECIPIENTS, " recipients of one message")
        if verb == b"RCPT" and name in self._envelope:
            self._earlier.append(self._envelope[name])
        word = line.partition(b" ")[2]
        address = _ADDRESS.match(word)
        self._envelope[name] = address[1] if address else word.strip()
        told = [*(("smtp.rcpt_to", one) for one in self._earlier), *self._envelope.items()]
        self._sink.fields(Direction.TO_SERVER, "smtp", lambda: told)

    def _begin_chunk(self, line: bytes) -> None:
        words = line.upper().split(b" ")
        if not 2 <= len(words) <= 3 or not words[1].isdigit() or words[2:] not in ([], [b"LAST"]):
            raise Refusal("smtp-bdat", f"expected BDAT length [LAST]; got {line[:40]!r}")
        if not self._chunking:
            raise Refusal(
                "smtp-bdat", "the server has not offered CHUNKING: it may take the bytes for commands"
            )
        if len(words[1]) > 10 or int(words[1]) > _CHUNK:
            raise Refusal("smtp-bdat", f"expected a length of at most {_CHUNK}; got {line[:40]!r}")
        self._begin_message()
        self._client.chunk_left, self._client.chunk_last = int(words[1]), len(words) == 3
        if not self._client.chunk_left and self._client.chunk_last:
            self._end_message()

    def _chunk(self) -> None:
        client = self._client
        piece = bytes(client.buffer[: client.chunk_left])
        del client.buffer[: len(piece)]
        client.chunk_left -= len(piece)
        self._sink.object_data(Direction.TO_SERVER, piece)
        if not client.chunk_left and client.chunk_last:
            self._end_message()

    def _begin_message(self) -> None:
        if not self._client.open:
            self._client.open = True
            self._sink.begin_object(Direction.TO_SERVER, "message", "message/rfc822")

    def _end_message(self) -> None:
        self._client.open = False
        self._sink.end_object(Direction.TO_SERVER)

    def _data(self) -> None:
        """Take message text up to the final dot; dots at the beginning of lines are undone (section 4.5.2)."""
        client = self._client
        keep = b"" if not client.at_line_start else b"\r\n"
        text = keep + bytes(client.buffer)
        end = text.find(_END)
        # what follows the message has rules of its own
        ours = text[: end + len(_END)] if end >= 0 else text
        for stray in (stray_line_end(ours), ours.find(b"\0")):
            if stray >= 0:
                raise Refusal(
                    "smtp-line-end", f"expected CRLF; got {ours[stray : stray + 1]!r} alone in a message"
                )
        if end >= 0:
            self._text(text[: end + 2], len(keep))
            del client.buffer[: end + len(_END) - len(keep)]
            client.in_data, client.at_line_start = False, True
            self._end_message()
            return
        # a beginning of the end may be at the end: it stays
        stay = next((size for size in range(4, 0, -1) if text.endswith(_END[:size])), 0)
        ready = max(len(text) - stay, len(keep))
        self._text(text[:ready], len(keep))
        client.at_line_start = False if ready > len(keep) else client.at_line_start
        del client.buffer[: ready - len(keep)]

    def _text(self, text: bytes, skip: int) -> None:
        undone = text.replace(b"\r\n.", b"\r\n")[skip:]
        if undone:
            self._sink.object_data(Direction.TO_SERVER, undone)

    def _replies(self) -> None:
        while self._server and not self._inner:
            line = self._line(self._server, "smtp-reply")
            if line is None:
                break
            match = _REPLY.fullmatch(line)
            if not match:
                raise Refusal("smtp-reply", f"expected three digits; got {line[:40]!r}")
            self._sink.text(Direction.TO_CLIENT, "reply", line + b"\r\n")
            self._offered |= match[3].upper().split(b" ")[0] == b"CHUNKING"
            if match[2] == b"-":
                continue
            if not self._asked:
                if line.startswith(b"4") and not self._leaves:
                    self._leaves = not line.startswith(b"421")
                    continue
                raise Refusal("smtp-reply", f"a reply nobody asked for: {line[:40]!r}")
            if self._leaves:
                raise Refusal("smtp-reply", f"a reply behind one that nobody asked for: {line[:40]!r}")
            self._answered(self._asked.popleft(), int(line[:3]))
            self._advance()  # the next reply may be to a command that waited for this one

    def _answered(self, verb: bytes, code: int) -> None:
        client = self._client
        if verb == b"DATA" and code == 354:
            self._accepted_part(accepted=True)
            client.in_data, client.at_line_start = True, True
            self._await_message(self._told)
            self._begin_message()
        elif verb == b"STARTTLS" and code == 220:
            if client.buffer or self._server:
                raise Refusal("smtp-starttls", "plain text behind STARTTLS")
            self._inner, self.protocol = Tls(self._sink, self._limits), "tls"
        elif verb in {b"BDAT", _LAST}:
            self._accepted_part(accepted=code < 300)
            if verb == _LAST:
                self._await_message(self._told - 1)
        elif verb in _NEW and code < 300:
            self._refused, self._accepted = False, 0
        if verb in _GREETINGS and code < 300:
            self._chunking, self._for_each = self._offered, verb == b"LHLO"
        self._accepted += verb == b"RCPT" and code < 300
        self._offered = False
        client.in_auth = verb in {b"AUTH", b"(auth)"} and code == 334

    @property
    def _told(self) -> int:
        """Return how many replies a whole message gets."""
        return max(1, self._accepted) if self._for_each else 1

    def _await_message(self, replies: int) -> None:
        self._asked.extendleft([b"(message)"] * replies)

    def _accepted_part(self, *, accepted: bool) -> None:
        """Heed what a server says to a part of a message: behind a part that is missing no further one may count."""
        if accepted and self._refused:
            raise Refusal("smtp-bdat", "the server accepts a part of a message behind one that it refused")
        self._refused = not accepted
