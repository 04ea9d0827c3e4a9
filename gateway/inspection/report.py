"""Parse what an inspector reports. It reads what peers send: it may have been taken over."""

from ipaddress import IPv4Address

from filters.reason import DropReason
from gateway.events.model import ContentFound

MAX_TEXT = 400


def parse_report(untrusted: object) -> ContentFound:
    """Return the event of a report; raises ValueError or TypeError."""
    if not isinstance(untrusted, dict):
        raise TypeError(f"finding: expected an object, got {type(untrusted).__name__}")
    return ContentFound(
        source_ip=str(IPv4Address(_text(untrusted, "source_ip"))),
        source_port=_number(untrusted, "source_port", 0xFFFF),
        destination_ip=str(IPv4Address(_text(untrusted, "destination_ip"))),
        destination_port=_number(untrusted, "destination_port", 0xFFFF),
        protocol=6,
        rule=_text(untrusted, "rule"),
        spoken=_text(untrusted, "protocol_spoken"),
        direction=_text(untrusted, "direction"),
        reason=DropReason(_text(untrusted, "reason")),
        check=_text(untrusted, "check"),
        detail=_text(untrusted, "detail"),
        inside=_text(untrusted, "inside"),
        offset=_number(untrusted, "offset", 1 << 62),
        evidence=_text(untrusted, "evidence"),
    )


def _text(untrusted: dict[str, object], name: str) -> str:
    value = untrusted.get(name)
    if not isinstance(value, str):
        raise TypeError(f"{name}: expected a text, got {type(value).__name__}")
    return value[:MAX_TEXT]


def _number(untrusted: dict[str, object], name: str, most: int) -> int:
    value = untrusted.get(name)
    if type(value) is not int:
        raise TypeError(f"{name}: expected a whole number, got {type(value).__name__}")
    if not 0 <= value <= most:
        raise ValueError(f"{name}: expected 0 to {most}, got {value}")
    return value
