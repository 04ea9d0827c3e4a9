"""Parse what an inspector reports. It reads what peers send: it may have been taken over."""

from dataclasses import dataclass
from ipaddress import IPv4Address

from filters.reason import DropReason
from gateway.events.model import ContentFound, MaterialTaken

MAX_TEXT = 400
MAX_NAMES = 1000


@dataclass(frozen=True, slots=True)
class Confined:
    """What an inspector says that it is confined by."""

    by: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FarPort:
    """The answer to a question: the port that the server of an inspected connection saw, 0 when unknown."""

    question: int
    port: int


@dataclass(frozen=True, slots=True)
class Taken:
    """An inspector inspects by the assignments of this number from now on."""

    number: int


@dataclass(frozen=True, slots=True)
class Alive:
    """A sign of life."""


Report = Taken | ContentFound | MaterialTaken | Confined | FarPort | Alive


def parse_report(untrusted: object) -> Report:
    """Return what a message of an inspector says; raises ValueError or TypeError."""
    if not isinstance(untrusted, dict):
        raise TypeError(f"message: expected an object, got {type(untrusted).__name__}")
    match untrusted:
        case {"finding": dict() as finding}:
            return _finding(finding)
        case {"material": {"files": list() as files, "bad": list() as bad, "notes": list() as notes}}:
            broken = tuple(_bad_file(one) for one in bad[:MAX_NAMES])
            return MaterialTaken(_texts(files), broken, _texts(notes))
        case {"confined": list() as by}:
            return Confined(_texts(by))
        case {"there": int() as question, "port": int()}:
            return FarPort(question, _number(untrusted, "port", 0xFFFF))
        case {"taken": int()}:
            return Taken(_number(untrusted, "taken", 1 << 62))
        case {"alive": True}:
            return Alive()
    raise ValueError(
        f"message: expected a finding, material, confined, there, taken or alive; got {sorted(map(str, untrusted))[:5]}"
    )


def _finding(untrusted: dict[str, object]) -> ContentFound:
    return ContentFound(
        source_ip=str(IPv4Address(_text(untrusted, "source_ip"))),
        source_port=_number(untrusted, "source_port", 0xFFFF),
        destination_ip=str(IPv4Address(_text(untrusted, "destination_ip"))),
        destination_port=_number(untrusted, "destination_port", 0xFFFF),
        protocol=_number(untrusted, "transport", 0xFF),
        rule=_text(untrusted, "rule"),
        spoken=_text(untrusted, "protocol_spoken"),
        direction=_text(untrusted, "direction"),
        reason=DropReason(_text(untrusted, "reason")),
        check=_text(untrusted, "check"),
        detail=_text(untrusted, "detail"),
        inside=_text(untrusted, "inside"),
        offset=_number(untrusted, "offset", 1 << 62),
        evidence=_text(untrusted, "evidence"),
        cuts=untrusted.get("cuts") is not False,
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


def _texts(untrusted: list[object]) -> tuple[str, ...]:
    return tuple(_text({"name": one}, "name") for one in untrusted[:MAX_NAMES])


def _bad_file(untrusted: object) -> str:
    if not isinstance(untrusted, dict):
        raise TypeError(f"bad file: expected an object, got {type(untrusted).__name__}")
    kept = "; its former content stays in use" if untrusted.get("kept") is True else ""
    return f"{_text(untrusted, 'name')}: {_text(untrusted, 'problem')}{kept}"
