"""Parse, build and replay a TCG crypto-agile event log (PC Client Platform Firmware Profile, section 10).

Event types are not hashed into PCRs: nothing is ever decided by them. Event data counts only where its
hash is the event's digest.
"""

import struct
from collections.abc import Iterable
from dataclasses import dataclass

from authn.cursor import Cursor
from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.pcr import PCR_COUNT, HashAlg, PcrSelection, extend

EV_NO_ACTION, EV_SEPARATOR, EV_IPL = 0x03, 0x04, 0x0D
SPEC_ID_SIGNATURE = b"Spec ID Event03\0"
STARTUP_LOCALITY_SIGNATURE = b"StartupLocality\0"
MAX_LOG = 8 << 20
MAX_EVENTS = 2048  # a boot has some hundreds at most; a guest may pad its log with what no PCR shows, and each costs time
MAX_TEXT = 200


@dataclass(frozen=True, slots=True)
class LogEvent:
    """One measured event: its PCR, digest in the wanted bank, and what it says it measured."""

    pcr: int
    event_type: int
    digest: bytes
    data: bytes

    @property
    def described(self) -> str:
        """Return the data as text for people, not too long; non-text becomes hex. EFI's own text is UTF-16."""
        text = self.data.rstrip(b"\0")
        try:
            decoded = text.decode()
            if not decoded.isprintable():
                decoded = self.data.decode("utf-16-le").rstrip("\0")
        except UnicodeDecodeError:
            decoded = "\0"
        return decoded[:MAX_TEXT] if decoded.isascii() and decoded.isprintable() else text[:32].hex()


def _malformed(message: str, at: int) -> AttestationError:
    return AttestationError(AttestationFailure.MALFORMED_EVENT_LOG, message, offset=at)


def _cursor(data: bytes) -> Cursor:
    return Cursor(data, "little", lambda at, _: _malformed("the log ends in the middle of an event", at))


def parse_event_log(untrusted_log: bytes, bank: HashAlg = HashAlg.SHA256) -> tuple[LogEvent, ...]:
    """Return the events with their digests in `bank`; raises AttestationError `malformed-event-log`."""
    if len(untrusted_log) > MAX_LOG:
        raise _malformed(f"the log is larger than {MAX_LOG} bytes", len(untrusted_log))
    cursor = _cursor(untrusted_log)
    sizes = _parse_header(cursor)
    if bank not in sizes:
        raise _malformed(f"the log has no {bank.name} digests", cursor.at)
    events: list[LogEvent] = []
    while cursor.at < len(untrusted_log):
        if len(events) >= MAX_EVENTS:
            raise _malformed(f"the log has more events than the {MAX_EVENTS} that are read", cursor.at)
        events.append(_parse_event(cursor, sizes, bank))
    return tuple(events)


def _parse_header(cursor: Cursor) -> dict[int, int]:
    """Read the first event (TCG_PCR_EVENT, SHA-1 format) with the sizes of all banks' digests."""
    cursor.take(4 + 4 + 20)
    body = _cursor(cursor.take(cursor.number(4)))
    if body.take(16) != SPEC_ID_SIGNATURE:
        raise _malformed("the log does not begin with a Spec ID event", 0)
    body.take(8)
    count = body.number(4)
    if not 1 <= count <= 8:
        raise _malformed(f"the log names {count} hash algorithms", cursor.at)
    return {body.number(2): body.number(2) for _ in range(count)}


def _parse_event(cursor: Cursor, sizes: dict[int, int], bank: HashAlg) -> LogEvent:
    start = cursor.at
    pcr, kind, count = cursor.number(4), cursor.number(4), cursor.number(4)
    if pcr >= PCR_COUNT:
        raise _malformed(f"an event is for PCR {pcr}", start)
    if count != len(sizes):
        raise _malformed(f"an event has {count} digests, the header names {len(sizes)} algorithms", start)
    digests: dict[int, bytes] = {}
    for _ in range(count):
        algorithm = cursor.number(2)
        if algorithm not in sizes or algorithm in digests:
            raise _malformed(f"an event has an unexpected digest of algorithm {algorithm:#x}", start)
        digests[algorithm] = cursor.take(sizes[algorithm])
    if len(digests[bank]) != bank.size:
        raise _malformed(f"a {bank.name} digest has {len(digests[bank])} bytes", start)
    return LogEvent(pcr, kind, digests[bank], cursor.take(cursor.number(4)))


def build_event_log(events: Iterable[LogEvent]) -> bytes:
    """Write a log with SHA-256 digests only."""
    spec = SPEC_ID_SIGNATURE + struct.pack(
        "<IBBBBIHHB", 0, 0, 2, 0, 2, 1, HashAlg.SHA256, HashAlg.SHA256.size, 0
    )
    parts = [struct.pack("<II20sI", 0, EV_NO_ACTION, bytes(20), len(spec)), spec]
    for event in events:
        parts.append(struct.pack("<IIIH", event.pcr, event.event_type, 1, HashAlg.SHA256) + event.digest)
        parts.append(struct.pack("<I", len(event.data)) + event.data)
    return b"".join(parts)


def replay(events: Iterable[LogEvent], selection: PcrSelection) -> dict[int, bytes]:
    """Return the values the selected PCRs have after these events, from zero (PCR 0: from its locality)."""
    bank = selection.bank
    values = {index: bytes(bank.size) for index in selection.indices}
    for event in events:
        if event.event_type == EV_NO_ACTION:
            if event.pcr == 0 and 0 in values and event.data.startswith(STARTUP_LOCALITY_SIGNATURE):
                values[0] = bytes(bank.size - 1) + event.data[16:17]
        elif event.pcr in values:
            values[event.pcr] = extend(bank, values[event.pcr], event.digest)
    return values
