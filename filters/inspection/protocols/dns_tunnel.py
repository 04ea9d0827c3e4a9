"""Tell what tunnels through DNS names look like: much that looks encoded, in ever new names."""

import math
from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from typing import Final

from filters.inspection.finding import Refusal
from filters.reason import DropReason

TUNNEL_BYTES: Final = 1024  # encoded-looking bytes in names below one domain, on one flow
TUNNEL_LABEL: Final = 24
HALF_S: Final = 3600.0  # ordinary programs meet some such names each day, for as long as they run
_IN_PIECES: Final = 32  # bytes of several labels that are one text in pieces
_MOST_DOMAINS: Final = 256
_REVERSE: Final = [b"ip6", b"arpa"]


@dataclass(slots=True)
class _Domain:
    names: OrderedDict[bytes, int] = field(
        default_factory=OrderedDict
    )  # with what counts of each; the latest last
    encoded: int = 0

    def halve(self) -> None:
        """Forget the oldest names until at most half is left."""
        most = self.encoded // 2
        while self.encoded > most:
            self.encoded -= self.names.popitem(last=False)[1]


@dataclass(slots=True)
class TunnelWatch:
    """Add up what looks encoded in the names below each domain; raises Refusal when it is too much.

    A name counts once however often it is asked for: whoever sends data needs new names.
    """

    found: OrderedDict[bytes, _Domain] = field(default_factory=OrderedDict)
    halved_at: float | None = None

    def age(self, now: float) -> None:
        """Forget half of what was seen for each `HALF_S` that went by; `now` in seconds of any steady clock."""
        if self.halved_at is None:
            self.halved_at = now
        while self.found and now - self.halved_at >= HALF_S:
            self.halved_at += HALF_S
            for below, domain in list(self.found.items()):
                domain.halve()
                if not domain.names:
                    del self.found[below]
        if not self.found:
            self.halved_at = now

    def see(self, name: bytes) -> None:
        """Count one name."""
        if len(name) < TUNNEL_LABEL and not self.found:
            return
        name = name.lower()
        below, labels = _split(name.split(b"."))
        size, domain = encoded_bytes(labels), self.found.get(below)
        if size and domain is None:
            domain = self.found[below] = _Domain()
            if len(self.found) > _MOST_DOMAINS:
                self.found.popitem(last=False)
        if domain is None:
            return
        if name in domain.names:
            domain.names.move_to_end(name)
        elif size and domain.encoded <= TUNNEL_BYTES:
            domain.names[name] = size
            domain.encoded += size
        if domain.encoded > TUNNEL_BYTES:
            where = f"below {below.decode('latin-1')}" if below else "without a domain"
            raise Refusal(
                "dns-tunnel", f"more than {TUNNEL_BYTES} encoded bytes in names {where}", DropReason.DATA_LEAK
            )


def _split(labels: list[bytes]) -> tuple[bytes, list[bytes]]:
    """Return the domain and what is below it; a domain that looks encoded itself is none."""
    if labels[-2:] == _REVERSE and all(len(one) == 1 for one in labels[:-2]):
        return b"ip6.arpa", []  # an address has this form
    if any(looks_encoded(one) for one in labels[-2:]):
        return b"", labels
    return b".".join(labels[-2:]), labels[:-2]


def encoded_bytes(labels: list[bytes]) -> int:
    """Return how many bytes of some labels look encoded, each by itself or all together."""
    if size := sum(len(one) for one in labels if looks_encoded(one)):
        return size
    text = b"".join(labels)
    if len(labels) < 2 or len(text) < _IN_PIECES or not text.isalnum():
        return 0
    return len(text) if _digits(text) * 8 >= len(text) and _entropy(text) > 3.2 else 0


def looks_encoded(label: bytes) -> bool:
    """Tell whether a label looks like data: long, and with more entropy than words have."""
    if len(label) < TUNNEL_LABEL:
        return False
    entropy = _entropy(label)
    return entropy > 3.2 and (_digits(label) >= 2 or entropy > 3.8)


def _entropy(text: bytes) -> float:
    return -sum(one / len(text) * math.log2(one / len(text)) for one in Counter(text).values())


def _digits(text: bytes) -> int:
    return sum(0x30 <= one <= 0x39 for one in text)
