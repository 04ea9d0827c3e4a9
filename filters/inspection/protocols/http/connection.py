"""One HTTP/1.x connection: requests and their answers, pipelined, each body decoded and handed on."""

import re
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from filters.inspection.coding.charset import Reader, foreign
from filters.inspection.coding.decoder import Stack
from filters.inspection.coding.percent import UrlEncoded
from filters.inspection.finding import Direction, LimitHit, Refusal
from filters.inspection.limits import Limits
from filters.inspection.parser import Parser, Sink
from filters.inspection.protocols.http.beginning import Beginning
from filters.inspection.protocols.http.body import Body
from filters.inspection.protocols.http.buffers import request_buffers, status_buffers
from filters.inspection.protocols.http.credentials import spelled_out
from filters.inspection.protocols.http.framing import Extent, Framing, request_framing, response_framing
from filters.inspection.protocols.http.head import (
    Fields,
    Request,
    Status,
    cut_head,
    parse_request,
    parse_status,
)
from filters.inspection.protocols.http.ranges import is_whole, is_whole_request
from filters.inspection.protocols.http.websocket import WebSocket

_FORM = "application/x-www-form-urlencoded"
_USER = re.compile(rb"//[^/]*@")


@dataclass(slots=True)
class _Side:
    """What one direction is in the middle of."""

    buffer: bytearray = field(default_factory=bytearray)
    body: Body | None = None
    beginning: Beginning | None = None
    codings: Stack | None = None
    has_object: bool = False
    media_type: str = ""
    seen: int = 0  # bytes of an incomplete head that were looked at
    forms: Sequence[UrlEncoded | Reader] = ()  # what the content says beside its bytes


def _readers(media_type: str) -> Sequence[UrlEncoded | Reader]:
    """Return what reads a body whose label means that it says something beside its bytes."""
    form = [UrlEncoded()] if media_type.lower().startswith(_FORM) else []
    return [*form, *foreign(media_type)]


def _shown(target: bytes) -> str:
    """Return a request's target without what may be a secret in it: its query, and a user's name and password."""
    return _USER.sub(b"//", target.partition(b"?")[0]).decode("latin-1")


class HttpConnection:
    """See Parser. An answer without a request, and a request after an unanswered upgrade, are refused."""

    protocol = "http"

    def __init__(self, sink: Sink, limits: Limits) -> None:
        self._sink, self._limits = sink, limits
        self._sides = (_Side(), _Side())
        self._asked: deque[Request] = deque()
        self._interim = False  # the oldest request has an answer that some take for the final one
        self._switching = False  # an upgrade was asked for: what the client says next depends on the answer
        self._inner: Parser | None = None

    def feed(self, direction: Direction, data: bytes) -> None:
        """See Parser."""
        if self._inner:
            self._inner.feed(direction, data)
            return
        side = self._sides[direction]
        side.buffer += data
        self._advance(direction)
        if self._switching and len(self._sides[Direction.TO_SERVER].buffer) > self._limits.head:
            raise LimitHit("head", self._limits.head, " bytes before the answer to an upgrade")

    def end(self, direction: Direction) -> None:
        """See Parser."""
        if self._inner:
            self._inner.end(direction)
            return
        side = self._sides[direction]
        if side.body:
            side.body.end()
            self._body_done(direction)
        if side.buffer:
            raise Refusal(
                "http-head-incomplete", f"the connection ended inside a head: {bytes(side.buffer[:40])!r}"
            )

    def waiting(self, direction: Direction) -> int:
        """See Parser."""
        return self._inner.waiting(direction) if self._inner else len(self._sides[direction].buffer)

    def _advance(self, direction: Direction) -> None:
        side = self._sides[direction]
        while side.buffer and not self._inner:
            before = len(side.buffer)
            if side.body:
                self._take_body(direction)
            elif direction is Direction.TO_CLIENT:
                self._take_status()
            elif not self._switching:
                self._take_request()
            if len(side.buffer) == before:
                return

    def _take_request(self) -> None:
        side = self._sides[Direction.TO_SERVER]
        if not (end := self._head_end(side)):
            return
        head = bytes(side.buffer[:end])
        request = parse_request(head, self._limits)
        framing = request_framing(request)
        del side.buffer[:end]
        if len(self._asked) >= self._limits.pending:
            raise LimitHit("pending", self._limits.pending, " requests without an answer")
        self._asked.append(request)
        self._check_interim()
        self._switching = request.method == b"CONNECT" or bool(request.fields.all(b"upgrade"))
        self._tell_head(Direction.TO_SERVER, spelled_out(head))
        self._sink.fields(Direction.TO_SERVER, "http", lambda: request_buffers(request, head))
        self._sink.note(
            "http-request",
            method=request.method.decode("latin-1"),
            host=(request.fields.single(b"host") or b"").decode("latin-1"),
            target=_shown(request.target),
        )
        if not is_whole_request(request.fields):
            self._sink.partial_object(Direction.TO_SERVER, "a request with a part of the object only")
        self._begin_body(Direction.TO_SERVER, framing, request.fields)

    def _take_status(self) -> None:
        side = self._sides[Direction.TO_CLIENT]
        if not self._asked:
            raise Refusal("http-answer-unasked", f"an answer nobody asked for: {bytes(side.buffer[:40])!r}")
        if not (end := self._head_end(side)):
            return
        head = bytes(side.buffer[:end])
        status = parse_status(head, self._limits)
        request = self._asked[0]
        framing = response_framing(status, request)
        del side.buffer[:end]
        if status.code >= 200 or status.code == 101:
            self._asked.popleft()
            self._interim = False
        elif status.code > 100:  # nobody takes 100 for more than it is
            self._interim = True
            self._check_interim()
        self._tell_head(Direction.TO_CLIENT, head)
        self._sink.fields(Direction.TO_CLIENT, "http", lambda: status_buffers(status.fields, head))
        self._sink.note("http-status", code=str(status.code))
        if framing.extent is Extent.TUNNEL:
            self._tunnel(request, status)
            return
        if self._switching and status.code >= 200 and not self._asked:
            self._switching = False
            self._advance(Direction.TO_SERVER)
        if not is_whole(status, request):
            self._sink.partial_object(Direction.TO_CLIENT, "an answer with a part of the object only")
        self._begin_body(Direction.TO_CLIENT, framing, status.fields)

    def _check_interim(self) -> None:
        """Refuse further requests behind one that has a 1xx: Python's and Java's clients take that for its answer."""
        if self._interim and len(self._asked) > 1:
            raise Refusal(
                "http-answer-early", "an informational answer, and another request behind the one it is for"
            )

    def _head_end(self, side: _Side) -> int:
        end = cut_head(side.buffer, self._limits, side.seen)
        side.seen = 0 if end else len(side.buffer)
        return end

    def _tell_head(self, direction: Direction, head: bytes) -> None:
        self._sink.fresh(direction, "head")
        self._sink.text(direction, "head", head)
        if b"%" in head:  # of a request's target, of cookies and links
            self._sink.fresh(direction, "target")
            self._sink.text(direction, "target", unquote_to_bytes(head))

    def _begin_body(self, direction: Direction, framing: Framing, fields: Fields) -> None:
        side = self._sides[direction]
        side.media_type = fields.media_type().decode("latin-1")
        side.codings = Stack(framing.codings, self._limits)
        side.forms = _readers(side.media_type)
        side.body = None if framing.extent is Extent.NONE else Body(framing, self._limits)
        side.beginning = Beginning(direction, framing.extent)

    def _take_body(self, direction: Direction) -> None:
        side = self._sides[direction]
        assert side.body and side.codings and side.beginning  # noqa: S101 - they are set together
        # together: a body of very small chunks costs no more than one of large ones
        if piece := b"".join(side.body.take(side.buffer)):
            side.beginning.look(piece)
            # as it is, too: codings have room for comments, and not everybody undoes them
            if side.codings.undoes:
                self._sink.text(direction, "coded 0", piece)
            contents = side.codings.feed(piece)
            self._tell_coded(direction, side.codings, shown=bool(contents))
            for content in contents:
                self._tell_content(direction, content)
        if side.body.extensions:
            self._sink.text(direction, "head", bytes(side.body.extensions))
            side.body.extensions.clear()
        if side.body.done:
            if side.body.trailer and side.body.trailer.pairs:
                lines = b"".join(b"%s: %s\r\n" % pair for pair in side.body.trailer.pairs)
                self._tell_head(direction, lines)
            self._body_done(direction)

    def _tell_coded(self, direction: Direction, codings: Stack, *, shown: bool) -> None:
        for level, (coding, pieces) in enumerate(codings.given()):
            self._begin_object(direction)
            for data in pieces:
                if level:
                    self._sink.text(direction, f"coded {level}", data)
                self._sink.coded(direction, level, coding, data, shown=shown)

    def _begin_object(self, direction: Direction) -> None:
        side = self._sides[direction]
        if not side.has_object:
            side.has_object = True
            self._sink.begin_object(direction, "body", side.media_type)

    def _tell_content(self, direction: Direction, content: bytes) -> None:
        side = self._sides[direction]
        self._begin_object(direction)
        self._sink.object_data(direction, content)
        for number, form in enumerate(side.forms):
            self._sink.text(direction, f"form {number}", form.feed(content))

    def _body_done(self, direction: Direction) -> None:
        side = self._sides[direction]
        assert side.codings  # noqa: S101 - set with the body
        side.codings.finish()
        for level, _ in enumerate(side.codings.given()):
            self._sink.fresh(direction, f"coded {level}")
        if side.has_object:
            for number, form in enumerate(side.forms):
                self._sink.text(direction, f"form {number}", form.finish())
                self._sink.fresh(direction, f"form {number}")
            self._sink.end_object(direction)
        side.body, side.has_object = None, False

    def _tunnel(self, request: Request, status: Status) -> None:
        wanted = status.fields.list(b"upgrade")
        if wanted != [b"websocket"] or b"websocket" not in request.fields.list(b"upgrade"):
            what = b", ".join(wanted).decode("latin-1") or request.method.decode("latin-1")
            raise Refusal(
                "http-tunnel", f"expected an upgrade to websocket, the only one read here; got {what!r}"
            )
        self._inner = WebSocket(self._sink, self._limits, status.fields)
        self.protocol = "websocket"
        for direction in Direction:
            rest, self._sides[direction].buffer = bytes(self._sides[direction].buffer), bytearray()
            if rest:
                self._inner.feed(direction, rest)
