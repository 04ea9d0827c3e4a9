"""Turn Perl's regular expressions into RE2's; what RE2 can't do in linear time is named, not imitated."""

import re
from dataclasses import dataclass
from typing import Final

from filters.inspection.matching.database import Expression, PatternError
from filters.inspection.suricata.model import Regex, Unsupported
from filters.inspection.suricata.parser import Option, quoted

# pcre's letters for buffers (Suricata's user guide, payload keywords)
BUFFER_FLAGS: Final = {
    "U": "http.uri", "I": "http.uri.raw", "P": "http.request_body", "Q": "http.response_body", "H": "http.header",
    "D": "http.header.raw", "M": "http.method", "C": "http.cookie", "S": "http.stat_code", "Y": "http.stat_msg",
    "V": "http.user_agent", "W": "http.host",
}  # fmt: skip
_IGNORED: Final = "OB"
_KNOWN: Final = "ismxAEGR"
_FORM = re.compile(r"/(.*)/([A-Za-z]*)", re.DOTALL)
_REASONS: Final = (
    ("(?=", "a look-ahead"), ("(?!", "a look-ahead"), ("(?<=", "a look-behind"), ("(?<!", "a look-behind"), ("(?>", "an atomic group"),
    ("(?P=", "a back-reference"), ("(?(", "a condition"), ("(?R", "a recursion"), ("(?|", "a branch reset"),
)  # fmt: skip
_NUMBER: Final = r"\\x\{[0-9A-Fa-f]+\}|\\[0-7]{2,3}|\\x[0-9A-Fa-f]{1,2}"
_TOKEN = re.compile(
    _NUMBER + r"|\\.|\(\?#[^)]*\)|\(\?[A-Za-z-]+[:)]|\[\^?\]?(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|.", re.DOTALL
)
_MEMBER = re.compile(_NUMBER + r"|\\.|\[:\^?\w+:\]|.", re.DOTALL)
_START: Final = frozenset({"^", r"\A"})
# what RE2 reads otherwise, or not at all: inside brackets, and outside
_VERTICAL: Final = r"\n\x0b\f\r\x85"
_MEMBERS: Final = {
    r"\h": r"\t \xa0",
    r"\v": _VERTICAL,
    r"\s": r"\s\x0b",
    r"\e": r"\x1b",
    r"\b": r"\x08",
    "[": r"\[",
}
_ESCAPES: Final = {
    r"\h": r"[\t \xa0]", r"\H": r"[^\t \xa0]", r"\v": f"[{_VERTICAL}]", r"\V": f"[^{_VERTICAL}]", r"\s": r"[\s\x0b]", r"\S": r"[^\s\x0b]",
    r"\e": r"\x1b", r"\R": rf"(?:\r\n|[{_VERTICAL}])", r"\N": r"[^\n]", r"\Z": r"(?:\n?\z)",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Parsed:
    """A pcre option: `buffer` where a letter names one."""

    regex: Regex
    buffer: str | None


def read_pcre(option: Option) -> Parsed:
    """Read a pcre option; raises RuleError, and Unsupported where RE2 can't do it."""
    value = option.value or ""
    negated, text = (False, value) if value.startswith("/") else quoted(option, bare=True)
    match = _FORM.fullmatch(text.strip())
    if not match:
        if re.match(r"/.*/[A-Za-z]*\s*,", text):
            raise Unsupported("pcre", "captured variables")
        raise option.error(f"expected /expression/letters; got {text[:40]!r}")
    body, flags = match[1], match[2]
    buffers = [BUFFER_FLAGS[one] for one in flags if one in BUFFER_FLAGS]
    if unknown := [one for one in flags if one not in _KNOWN + _IGNORED and one not in BUFFER_FLAGS]:
        raise Unsupported("pcre", f"the letter {unknown[0]}")
    if len(set(buffers)) > 1:
        raise option.error(f"expected letters for one buffer; got {flags!r}")
    _check(body)
    looks_beyond = translate(body, flags)[1]
    try:
        expression, at_place, loose = _compiled(body, flags), None, None
        if "R" in flags and ("A" in flags or _START.intersection(_TOKEN.findall(body))):
            at_place = _compiled(body, flags + "A")
            loose = _compiled(_without_start(body), flags.replace("A", ""))
    except PatternError as error:
        raise Unsupported("pcre", _why(body, str(error))) from error
    found = Regex(expression, negated, "R" in flags, at_place, loose, looks_beyond)
    return Parsed(found, buffers[0] if buffers else None)


def _check(body: str) -> None:
    """Raise Unsupported for what would be read otherwise without a word."""
    signs = _TOKEN.findall(body)
    if "$" in signs and any(re.fullmatch(r"\(\?[A-Za-z-]*m[A-Za-z-]*[:)]", one) for one in signs):
        raise Unsupported("pcre", "$ together with (?m)")
    if r"\Q" in signs:
        raise Unsupported("pcre", r"\Q")


def _compiled(body: str, flags: str) -> Expression:
    return Expression(translate(body, flags)[0], caseless="i" in flags)


def _without_start(body: str) -> str:
    return "".join("(?:)" if sign in _START else sign for sign in _TOKEN.findall(body))


def translate(body: str, flags: str) -> tuple[bytes, bool]:
    """Return the expression for RE2, and whether what follows a match may make it none."""
    lines, extended, beyond = "m" in flags, "x" in flags, False
    dollar = "$" if lines else (r"\z" if "E" in flags else r"(?:\n?\z)")
    found, comment = list[str](), False
    for sign in _TOKEN.findall(body):
        if extended and (comment or sign == "#" or sign.isspace()):
            comment = (comment or sign == "#") and sign != "\n"
        elif sign.startswith("(?#"):
            continue
        elif sign == "$":
            found.append(dollar)
            beyond = True
        else:
            beyond = beyond or sign in {r"\b", r"\B", r"\z", r"\Z"}
            found.append(_one(sign))
    letters = "".join(letter for flag, letter in (("s", "s"), ("m", "m"), ("G", "U")) if flag in flags)
    text = (f"(?{letters})" if letters else "") + (
        r"\A(?:" + "".join(found) + ")" if "A" in flags else "".join(found)
    )
    return text.encode("latin-1", "replace") if text.isascii() else _high(text), beyond


def _one(token: str) -> str:
    if token.startswith("[") and len(token) > 1:
        return _class(token)
    return _ESCAPES.get(token) or _short(token)


def _class(token: str) -> str:
    """Escape what RE2 reads otherwise inside brackets; raises Unsupported."""
    members = _MEMBER.findall(token[1:-1])
    for one in members:
        if one in {r"\H", r"\V"}:
            raise Unsupported("pcre", f"{one} in brackets")
    return "[" + "".join(_MEMBERS.get(one) or _short(one) for one in members) + "]"


def _short(token: str) -> str:
    """Spell a number of one digit with two: RE2 wants both."""
    return re.sub(r"^\\x([0-9A-Fa-f])$", r"\\x0\1", token)


def _high(text: str) -> bytes:
    """Spell characters beyond ASCII by the bytes they have in the file."""
    return "".join(
        one if one.isascii() else "".join(f"\\x{byte:02x}" for byte in one.encode("utf-8", "surrogateescape"))
        for one in text
    ).encode()


def _why(body: str, words: str) -> str:
    for sign, name in _REASONS:
        if sign in body:
            return name
    if re.search(r"\\[1-9]", body):
        return "a back-reference"
    if re.search(r"[+*?}]\+", body):
        return "a possessive repetition"
    if "repetition size" in words:
        return "a repetition of more than 1000"
    return words or "RE2 does not take it"
