"""What one flow may ask of us. docs/inspection.md lists these limits, and those that a parser has of its own."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of anything a flow may ask of us. Sizes in bytes.

    A limit that is hit ends the flow with `resource-limit` (`scan_s`: `inspector-timeout`); the finding names the field.
    """

    head: int = 64 << 10  # an HTTP head, a TLS hello: what must be whole to be read
    headers: int = 200  # fields in one head
    chunk_line: int = 256
    codings: int = 3  # stacked content and transfer codings
    ratio: int = 200  # decoded : encoded, once `ratio_from` bytes came out
    ratio_from: int = 1 << 20
    object: int = 64 << 20  # one object held for judging, decoded
    depth: int = 6  # objects inside objects
    members: int = 2000  # files in one archive, and parts in one message
    unpacked: int = 256 << 20  # everything that came out of one object
    pending: int = 64  # HTTP requests without an answer yet
    scan_s: float = 10.0  # judging one object
    hits: int = 2 << 20  # possible matches in what one piece from the wire decodes to, a second's work


DEFAULT_LIMITS = Limits()
