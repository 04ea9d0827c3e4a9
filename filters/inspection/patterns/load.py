"""Read pattern files (TOML): the shipped secrets and the operator's own have the same form."""

import re
import tomllib
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from functools import cache, partial
from importlib.resources import files

from filters.errors import PolicyError
from filters.inspection.patterns.checksums import (
    PASSWORDS,
    mixed,
    mixed_bare,
    mixed_element,
    mixed_token,
    no_placeholder,
    real_password,
)
from filters.inspection.patterns.pattern import END, WORD, Pattern
from filters.inspection.patterns.surroundings import stands_alone, stands_in_text
from filters.reason import DropReason
from filters.suggestion import suggestion

_ID = re.compile(r"[a-z0-9][a-z0-9.-]{0,63}")
_QUOTE = rb"\\?[\"'`]"  # also escaped, as in text within text
# NAME… = VALUE
_NAMED = rb"[0-9A-Za-z_.-]{0,32}(?:" + _QUOTE + rb"\]?)?[\t ]{0,4}(?:%s)[\t ]{0,4}"
_TYPE = rb":[\t ]?[A-Za-z]{1,16}\??[\t ]{0,4}=|string[\t ]="  # what is declared before it is set
_SIGNS = rb"=|:|:{1,3}=|=>"
_QUOTED_SIGNS = _SIGNS + rb"|[.+?|=]{1,2}=|" + _TYPE
_LINE = rb"^[\t ]{0,32}(?:- )?(?:export |set )?[0-9A-Za-z_.-]{0,32}"  # a line begins with a name that goes on
_TELLING = 6  # bytes: fewer stand by chance once in some hundred MB of what is compressed or encrypted
_KEYS = {
    "pattern": {"id", "expression", "keywords", "detail", "caseless", "reason", "mixed"},
    "assignment": {"name", "value", "mixed", "bare"},
    "mark": {"words", "id"},
}


@cache
def secrets() -> tuple[Pattern, ...]:
    """Return the shipped patterns for secrets."""
    text = files(__package__).joinpath("secrets.toml").read_text()
    return tuple(map(_real, parse_patterns(text, "secrets", "secrets.toml")))


def _real(one: Pattern) -> Pattern:
    """Return a pattern for which placeholders don't count. What is assigned to a name has checks of its own."""
    if one.first:
        return one
    real = partial(real_password, where=PASSWORDS[one.id]) if one.id in PASSWORDS else no_placeholder
    check = one.check
    return replace(one, check=real if check is None else lambda match: real(match) and check(match))


def parse_patterns(text: str, detector: str, origin: str) -> tuple[Pattern, ...]:
    """Read `[[pattern]]`, `[[assignment]]` and `[[mark]]` tables; raises PolicyError naming the entry."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise PolicyError("pattern-file", f"{origin}: {error}") from error
    patterns: list[Pattern] = []
    for kind, entries in data.items():
        if kind not in _KEYS or not isinstance(entries, list):
            raise PolicyError(
                "pattern-file", f"{origin}: expected [[pattern]], [[assignment]] or [[mark]]; got {kind!r}"
            )
        for number, entry in enumerate(entries, 1):
            where = f"{origin}: {kind} {number}"
            if unknown := set(entry) - _KEYS[kind]:
                hint = suggestion(min(unknown), sorted(_KEYS[kind]))
                raise PolicyError("pattern-file", f"{where}: unknown key {min(unknown)!r}{hint}")
            patterns += _READERS[kind](entry, detector, where)
    if twice := {one.id for one in patterns if [two.id for two in patterns].count(one.id) > 1}:
        raise PolicyError("pattern-file", f"{origin}: two patterns have the id {min(twice)!r}")
    return tuple(patterns)


def _pattern(entry: Mapping[str, object], detector: str, where: str) -> list[Pattern]:
    name = _text(entry, "id", where)
    if not _ID.fullmatch(name):
        raise PolicyError(
            "pattern-file", f"{where}: id: expected lower-case letters, digits, . and -; got {name!r}"
        )
    words = entry.get("keywords", [])
    if not isinstance(words, list) or not all(isinstance(one, str) and one for one in words):
        raise PolicyError("pattern-file", f"{where}: keywords: expected a list of strings")
    reason = str(entry.get("reason", DropReason.DATA_LEAK))
    if reason not in {DropReason.DATA_LEAK, DropReason.MALWARE}:
        raise PolicyError("pattern-file", f"{where}: reason: expected data-leak or malware; got {reason!r}")
    is_mixed = bool(entry.get("mixed"))
    found = Pattern(
        name,
        detector,
        _bounded(_text(entry, "expression", where).encode()),
        tuple(one.encode() for one in words),
        DropReason(reason),
        bool(entry.get("caseless", False)),
        mixed_token if is_mixed else None,
        str(entry.get("detail", "")),
        around=stands_alone if is_mixed else None,
    )
    return [found]


def _bounded(expression: bytes) -> bytes:
    if expression.startswith(rb"\b"):
        expression = WORD + expression[2:]
    if expression.endswith(rb"\b") and not expression.endswith(rb"\\b"):
        expression = expression[:-2] + END
    return expression


def _assignment(entry: Mapping[str, object], detector: str, where: str) -> list[Pattern]:
    word, value = (_text(entry, key, where).encode() for key in ("name", "value"))
    name, value, is_mixed = re.escape(word), b"(?:%s)" % value, bool(entry.get("mixed"))
    quoted = _QUOTE + value + _QUOTE
    listed = name + _NAMED % b"," + quoted
    if is_mixed:  # behind a comma stands the next word of any list; the last of a call may be what is set
        listed += rb"[\t ]{0,4}\)"
    found = Pattern(
        f"assigned-{word.decode().replace('_', '-')}",
        detector,
        name + _NAMED % _QUOTED_SIGNS + quoted + b"|" + listed,
        first=name + _NAMED % (_QUOTED_SIGNS + b"|,") + _QUOTE,
        caseless=True,
        check=mixed if is_mixed else None,
        detail=f"a value assigned to {word.decode()}",
    )
    if not entry.get("bare"):
        return [found]
    return [found, _bare(found, word, value), _element(found, word, value)]


def _bare(found: Pattern, word: bytes, value: bytes) -> Pattern:
    """Return what finds the same without quotation marks; fields of HTTP end with CR: that a client logs in is no leak."""
    name = re.escape(word)
    value += rb"[\t ]*"
    set_, told = name + _NAMED % b"=|:=|=>" + value + rb"\r?$", name + _NAMED % b":" + value + b"$"
    return replace(
        found,
        id=f"{found.id}-bare",
        expression=_LINE + b"(?:" + set_ + b"|" + told + b")",
        first=name + _NAMED % _SIGNS,
        check=partial(mixed_bare, name=word.lower()),
    )


def _element(found: Pattern, word: bytes, value: bytes) -> Pattern:
    """Return what finds the same as an element of XML."""
    begin = re.escape(word) + rb"[0-9A-Za-z_.-]{0,32}>\s{0,32}"
    return replace(
        found,
        id=f"{found.id}-element",
        expression=begin + value + rb"\s{0,32}</",
        first=begin,
        check=mixed_element,
    )


def _mark(entry: Mapping[str, object], _detector: str, where: str) -> list[Pattern]:
    """A classification mark: words in any of the encodings that documents use."""
    words = entry.get("words", [])
    if (
        not isinstance(words, list)
        or not words
        or not all(isinstance(one, str) and len(one) > 1 for one in words)
    ):
        raise PolicyError(
            "pattern-file", f"{where}: words: expected a list of strings of two characters or more"
        )
    name = _text(entry, "id", where)
    forms: dict[bytes, str] = {}
    for word in words:
        for encoding in ("utf-8", "utf-16-le", "utf-16-be", "gb18030", "big5"):
            with suppress(UnicodeEncodeError):
                forms.setdefault(word.encode(encoding), encoding)
    return [
        Pattern(f"{name}.{number}", "marks", b"".join(b"\\x%02x" % one for one in form), (), caseless=form.isascii(),
                detail=f"the mark {name}", around=_around(form, encoding))
        for number, (form, encoding) in enumerate(forms.items(), 1)
    ]  # fmt: skip


def _around(form: bytes, encoding: str) -> Callable[[bytes], bool] | None:
    """Return what tells a short form from the same bytes by chance; letters of ASCII stand in text of any encoding."""
    if len(form) >= _TELLING or (form.isascii() and encoding == "utf-8"):
        return None
    return partial(stands_in_text, encoding=encoding)


def _text(entry: Mapping[str, object], key: str, where: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value:
        raise PolicyError("pattern-file", f"{where}: {key}: expected a string; got {value!r}")
    return value


_READERS = {"pattern": _pattern, "assignment": _assignment, "mark": _mark}
