"""Read services, durations and labels as policy writes them. Pure; errors are ValueError with what was expected."""

import re

from filters.flow import Protocol, Service
from filters.policy.model import ServiceRange

MAX_PORT = 65535
_UNITS_MS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"([0-9]{1,9})(ms|s|m|h|d)")
_PORTS = re.compile(r"(tcp|udp)/([0-9]{1,5})(?:-([0-9]{1,5}))?")
_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
ANY = (
    ServiceRange(Protocol.ICMP, 0, 0),
    ServiceRange(Protocol.TCP, 1, MAX_PORT),
    ServiceRange(Protocol.UDP, 1, MAX_PORT),
)


def parse_services(text: str) -> tuple[ServiceRange, ...]:
    """Read `tcp/5432`, `tcp/1000-2000`, `udp/53`, `icmp/echo` or `any`."""
    if text == "any":
        return ANY
    if text == "icmp/echo":
        return (ServiceRange(Protocol.ICMP, 0, 0),)
    match = _PORTS.fullmatch(text)
    if match is None:
        raise ValueError(f"expected tcp/PORT, tcp/FIRST-LAST, udp/PORT, icmp/echo or any; got {text!r}")
    first = int(match[2])
    last = int(match[3] or first)
    if not 1 <= first <= last <= MAX_PORT:
        raise ValueError(f"expected ports from 1 to {MAX_PORT}, the first not above the last; got {text!r}")
    return (ServiceRange(Protocol[match[1].upper()], first, last),)


def parse_service(text: str) -> Service:
    """Read exactly one service."""
    ranges = parse_services(text)
    if len(ranges) != 1 or ranges[0].first != ranges[0].last:
        raise ValueError(f"expected one service such as tcp/5432, udp/53 or icmp/echo; got {text!r}")
    return Service(ranges[0].protocol, ranges[0].first)


def parse_duration_ms(text: str) -> int:
    """Read a duration such as `800ms`, `3s`, `5m` or `8h` as milliseconds."""
    match = _DURATION.fullmatch(text)
    if match is None or not int(match[1]):
        raise ValueError(f"expected a duration above 0, such as 800ms, 3s, 5m or 8h; got {text!r}")
    return int(match[1]) * _UNITS_MS[match[2]]


def parse_label(text: str) -> str:
    """Read a rule id, tag or port name: words that stand in events and on terminals."""
    if not _LABEL.fullmatch(text):
        raise ValueError(
            "expected letters, digits, '.', '_' and '-', beginning with a letter or digit, at most 64; "
            f"got {text!r}"
        )
    return text


def range_text(protocol: Protocol, first: int, last: int) -> str:
    """Write a range as a policy does: what `parse_services` reads."""
    if protocol is Protocol.ICMP:
        return "icmp/echo"
    ports = str(first) if first == last else f"{first}-{last}"
    return f"{protocol.name.lower()}/{ports}"
