"""Read the fields of MIME parts (RFC 2045, 2183, 5322), strictly: what programs read differently is refused.

`doubts` is given for what may be no mail: as much as can be read is taken then, and what programs may read differently
is noted in it.
"""

import re
from collections.abc import Iterator
from typing import Final

from filters.inspection.finding import Refusal

Fields = list[tuple[bytes, bytes]]
_FIELD = re.compile(rb"([\x21-\x39\x3b-\x7e]+):[ \t]*(.*)")
_TYPE = re.compile(rb"[ \t]*([!#$%&'*+\-.^_`|~0-9A-Za-z]+/[!#$%&'*+\-.^_`|~0-9A-Za-z]+)[ \t]*")
_PARAMETER = re.compile(  # ++ and *+: it remembers no way back, which would take a hundred times the value's size
    rb";[ \t]*(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]+)=(?:\"((?:[^\"\\\r\n]++|\\[\x20-\x7e])*+)\"|([^\s;\"]+))[ \t]*)?"
)
_LOOSE_PARAMETER = re.compile(  # of what has no parts: its name and charset are all that anybody wants
    rb";[ \t]*+(?:([!#$%&'*+\-.^_`|~0-9A-Za-z]++)[ \t]*+=[ \t]*+(?:\"((?:[^\"\\\r\n]++|\\[\x20-\x7e])*+)\"|([^;\"(]*+))"
    rb"[ \t]*+(?:\([^()]*+\)[ \t]*+)*+)?+(?=;|\Z)"
)
# a comma ends it for PHP, a parenthesis for others
_BARE_BOUNDARY = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z=/:?]+")
_ENDS_BARE = re.compile(rb"[=?:/]")  # a bare value, for Python
# a parameter's name that no field can have: the boundary as far as they read it
SHORTER: Final = b" boundary"
_FIELD_LOOSELY = re.compile(rb"([\x21-\x39\x3b-\x7e]+)[ \t]*:[ \t]*(.*)")


def doubt(detail: str, doubts: list[Refusal] | None, check: str = "mime-boundary") -> None:
    """Refuse, or note it."""
    refusal = Refusal(check, detail)
    if doubts is None:
        raise refusal
    doubts.append(refusal)


def head(data: bytes, doubts: list[Refusal] | None = None) -> tuple[Fields, bytes]:
    """Return the fields, names in lower case, and the body; raises Refusal for a line that is no field."""
    if not data or data.startswith(b"\r\n"):
        return [], data[2:]
    lines, found, body = data.partition(b"\r\n\r\n")
    if not found:
        lines = data.removesuffix(b"\r\n")
    fields: Fields = []
    for line in re.sub(rb"\r\n([ \t])", rb"\1", lines).split(b"\r\n"):
        match = (_FIELD if doubts is None else _FIELD_LOOSELY).fullmatch(line)
        if not match:
            if doubts is not None:
                continue
            raise Refusal("mime-field", f"expected `Name: value`; got {line[:60]!r}")
        fields.append((match[1].lower(), match[2]))
    return fields, body


def _single(fields: Fields, name: bytes, doubts: list[Refusal] | None = None) -> bytes | None:
    """Return a field's value; of one that stands twice in what may be no mail the first."""
    values = [value for one, value in fields if one == name]
    if len(values) > 1 and doubts is None:
        raise Refusal(
            "mime-field-twice", f"{name.decode()} stands {len(values)} times: programs choose differently"
        )
    return values[0] if values else None


def coding_of(fields: Fields, default: bytes, doubts: list[Refusal] | None = None) -> bytes:
    """Return the Content-Transfer-Encoding in lower case."""
    coding = (_single(fields, b"content-transfer-encoding", doubts) or default).strip().lower()
    return coding if doubts is None else re.split(rb"[;( \t]", coding)[0]


def type_of(
    fields: Fields, doubts: list[Refusal] | None = None, *, default: str = "text/plain", served: bool = False
) -> tuple[str, dict[bytes, bytes]]:
    """Return the type and its parameters. default: what it is without a field. served: a server reads it, no mail program."""
    value = _single(fields, b"content-type", doubts)
    if value is None:
        return default, {}
    match = _TYPE.match(value)
    if not match and doubts is not None:
        return "application/octet-stream", {}
    if not match or (served and b"boundary" in match[1].lower()):
        raise Refusal(
            "mime-type", f"expected TYPE/SUBTYPE, in which nobody finds a boundary; got {value[:60]!r}"
        )
    media_type = match[1].decode().lower()
    parted = media_type.startswith("multipart/")
    try:
        return media_type, _type_parameters(value, match.end(), doubts, parted=parted, served=served)
    except Refusal as refusal:
        if doubts is None:
            raise
        if parted:
            doubts.append(refusal)
            raise
        return media_type, {}


def _type_parameters(
    value: bytes, place: int, doubts: list[Refusal] | None, *, parted: bool, served: bool
) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    for parameter in _parameters(value, "content-type", place, strictly=parted or served):
        if parted and parameter[1].lower() == b"boundary":
            found.update(_boundary(parameter, doubts))
            continue
        if served and b"boundary" not in found:
            _check_other(parameter)
        found[parameter[1].lower()] = _value(parameter)
    return found


def _parameters(
    field: bytes, kind: str, place: int, *, strictly: bool = False
) -> Iterator["re.Match[bytes]"]:
    """Yield the parameters of a field that begin at a place, each once."""
    seen = set()
    pattern = _PARAMETER if strictly else _LOOSE_PARAMETER
    while place < len(field):
        match = pattern.match(field, place)
        if not match:
            raise Refusal(
                "mime-parameter", f"{kind}: expected `; name=value`; got {field[place : place + 60]!r}"
            )
        place = match.end()
        if match[1] is None:
            continue
        name = match[1].lower()
        if name in seen or name.startswith(b"boundary*"):
            raise Refusal("mime-parameter", f"{kind}: {name.decode()} stands twice or in pieces")
        seen.add(name)
        yield match


def _value(parameter: "re.Match[bytes]") -> bytes:
    return (
        re.sub(rb"\\(.)", rb"\1", parameter[2]) if parameter[2] is not None else parameter[3].rstrip(b" \t")
    )


def _boundary(parameter: "re.Match[bytes]", doubts: list[Refusal] | None) -> dict[bytes, bytes]:
    """Return the boundary, and what it is to who ends a bare one early; raises Refusal for one that programs read differently.

    Some take a comment out, leave the backslashes in, or decode words.
    """
    quoted, bare = parameter[2], parameter[3]
    odd = b"\\" in quoted if bare is None else b"'" in bare or not _BARE_BOUNDARY.fullmatch(bare)
    if odd or b"=?" in parameter[0]:
        doubt(f"a boundary that programs read differently: {parameter[0][:60]!r}", doubts, "mime-parameter")
    shorter = {SHORTER: _ENDS_BARE.split(bare)[0]} if bare and _ENDS_BARE.search(bare) else {}
    return {b"boundary": _value(parameter), **shorter}


def _check_other(parameter: "re.Match[bytes]") -> None:
    """Refuse what servers take for the boundary: PHP takes what follows the first `boundary` anywhere."""
    if b"boundary" in parameter[0].lower():
        raise Refusal("mime-parameter", f"servers find a boundary in it: {parameter[0][:60]!r}")


def disposition_name(fields: Fields, doubts: list[Refusal] | None = None) -> bytes | None:
    """Return the name that a Content-Disposition gives, None where it gives none."""
    value = _single(fields, b"content-disposition", doubts)
    if value is None:
        return None
    place = value.find(b";") if b";" in value else len(value)
    try:
        parameters = {one[1].lower(): _value(one) for one in _parameters(value, "content-disposition", place)}
    except Refusal:
        if doubts is None:
            raise
        return None  # only a name
    return parameters.get(b"filename") or parameters.get(b"name")
