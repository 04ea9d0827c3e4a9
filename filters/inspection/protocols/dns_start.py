"""Tell DNS over TCP (RFC 7766) from the first bytes of a connection, be it asked as servers bear it and nobody should.

Servers answer a first message that is odd with an error, or pass over it, and go on with the next one.
"""

import struct
from typing import Final

from filters.inspection.finding import Refusal
from filters.inspection.protocols.dns import parse_message, read_name

_HEADER: Final = 12
_FRAMED: Final = struct.Struct(">H2xHHHHH")  # length, flags, and four counts
_ANSWER: Final = 0x80  # in the first byte of the flags
_CLASSES: Final = frozenset({1, 3, 4, 254, 255})  # IN, CH, HS, NONE, ANY
_OPT: Final = 41  # its class is a size
_QUESTION, _RECORD = 5, 11  # bytes of the shortest


def begins_dns(start: bytes, longest: int, *, answer: bool) -> bool | None:
    """Tell whether a direction's first bytes, of which `longest` at most are seen, begin a message; None: they may."""
    rest = start if answer else _past_short(start)
    if rest[:2] == b"\0\0" or (answer and len(rest) > 4 and not rest[4] & _ANSWER):
        return False
    if len(rest) < _FRAMED.size:
        return None if len(start) < longest and (answer or _may_ask(rest, longest)) else False
    length, flags, asked, *others = _FRAMED.unpack_from(rest)
    is_plain = flags & 0xF84F == 0 and (asked, *others[:2]) == (1, 0, 0) and length >= _HEADER + _QUESTION
    if not is_plain and not _fits(length, asked, others):
        return False
    if length + 2 > longest:
        read = _first_reads(rest[2:], asked)
        return False if read is None and len(start) >= longest else read
    if is_plain:
        return True  # a plain question: its names may be wrong, that is for the parser to say
    message = rest[2 : 2 + length]
    if len(message) < length:
        return None if len(start) < longest else False
    return _reads(message)


def _past_short(start: bytes) -> bytes:
    """Skip what is shorter than a header: some servers pass over it, but for an empty one, and what others say begins with zeros."""
    while len(start) >= 2 and 0 < (length := int.from_bytes(start[:2], "big")) < _HEADER:
        start = start[2 + length :]
    return start


def _may_ask(rest: bytes, longest: int) -> bool:
    """Tell whether what is there of length and header may be a question's; a long one has to be a plain one."""
    if len(rest) < 2 or int.from_bytes(rest[:2], "big") + 2 <= longest:
        return True
    masks = ((4, 0xF8, 0), (5, 0x4F, 0), *((at, 0xFF, 1 if at == 7 else 0) for at in range(6, 12)))
    return all(rest[at] & mask == wanted for at, mask, wanted in masks if at < len(rest))


def _fits(length: int, asked: int, others: list[int]) -> bool:
    return _HEADER + asked * _QUESTION + sum(others) * _RECORD <= length


def _reads(message: bytes) -> bool:
    try:
        parse_message(message)
    except Refusal:
        return False
    return True


def _first_reads(message: bytes, asked: int) -> bool | None:
    """Tell whether the first question or record is one; None: it is not there, or is none."""
    try:
        _, at = read_name(message, _HEADER)
    except Refusal:
        return None
    if at + 4 > len(message):
        return None
    kind, family = (
        int.from_bytes(message[at : at + 2], "big"),
        int.from_bytes(message[at + 2 : at + 4], "big"),
    )
    return family in _CLASSES or (kind == _OPT and not asked)
