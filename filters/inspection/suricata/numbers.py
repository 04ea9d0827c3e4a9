"""Options whose values are numbers: sizes, places, and tests of numbers in the bytes."""

import re
from typing import Final

from filters.inspection.suricata.model import ENDLESS, ByteTest, DataAt, Size, Unsupported
from filters.inspection.suricata.parser import Option

_FURTHEST: Final = 1 << 16
_SIZE = re.compile(r"(?:([0-9]+)\s*(?:<>|-)\s*([0-9]+))|(!=?|<=?|>=?|=)?\s*([0-9]+)")
_DATA_AT = re.compile(r"(!?)\s*([0-9]+)")
_TEST = re.compile(r"(!?)\s*(<=|>=|<|>|=|&|\^)?")
_BASES: Final = {"hex": 16, "dec": 10, "oct": 8}


def read_number(option: Option, text: str, most: int) -> int:
    """Read a whole number whose size is at most `most`; raises RuleError."""
    if not re.fullmatch(r"[+-]?[0-9]{1,12}", text) or abs(int(text)) > most:
        raise option.error(f"expected a number up to {most}; got {text[:20]!r}")
    return int(text)


def read_size(option: Option, text: str) -> Size:
    """Read a size with its comparison, ranges without their ends; raises RuleError."""
    match = _SIZE.fullmatch(text.strip())
    if not match or len(text) > 30:
        raise option.error(f"expected a number, <number, >number or low<>high; got {text[:20]!r}")
    if match[1]:
        return Size(int(match[1]) + 1, int(match[2]) - 1)
    number = int(match[4])
    return {
        "<": Size(0, number - 1), "<=": Size(0, number), ">": Size(number + 1, ENDLESS), ">=": Size(number, ENDLESS),
    }.get(match[3] or "=", Size(number, number, negated=(match[3] or "").startswith("!")))  # fmt: skip


def read_data_at(option: Option) -> DataAt:
    """Read isdataat; raises RuleError and Unsupported."""
    place, *words = re.split(r"\s*,\s*", option.value or "")
    if unknown := set(words) - {"relative", "rawbytes"}:
        raise option.error(f"expected relative; got {min(unknown)[:20]!r}")
    match = _DATA_AT.fullmatch(place)
    if not match:
        raise Unsupported("isdataat", f"a variable: {place[:20]}")
    if len(match[2]) > 6 or int(match[2]) > _FURTHEST:
        raise Unsupported("isdataat", f"more than {_FURTHEST}")
    return DataAt(int(match[2]), "relative" in words, bool(match[1]))


def read_byte_test(option: Option) -> ByteTest:
    """Read byte_test; raises RuleError and Unsupported."""
    words = [one.strip() for one in (option.value or "").split(",")]
    if len(words) < 4:
        raise option.error("expected bytes, operator, value, offset")
    size, sign, value, place, *rest = words
    if "" in rest:
        raise option.error("expected a word on each side of a comma")
    if unknown := set(rest) - {"relative", "big", "little", "string", "hex", "dec", "oct"}:
        raise Unsupported("byte_test", min(unknown)[:20])
    operator = _TEST.fullmatch(sign)
    if not operator:
        raise option.error(f"expected an operator (< > = <= >= & ^); got {sign[:10]!r}")
    if not re.fullmatch(r"0x[0-9A-Fa-f]{1,16}|[0-9]{1,20}", value) or not re.fullmatch(r"[+-]?[0-9]+", place):
        raise Unsupported("byte_test", "a variable")
    text = "string" in rest
    base = next((_BASES[one] for one in rest if one in _BASES), 10) if text else 0
    count = read_number(option, size, 23)
    if not (0 if text else 1) <= count <= (23 if text else 8):
        raise option.error(f"expected 1 to 8 bytes, of text 0 to 23; got {count}")
    return ByteTest(
        count, operator[2] or "=", int(value, 16 if value.startswith("0x") else 10), read_number(option, place, _FURTHEST), "relative" in rest, bool(operator[1]), "little" in rest, base
    )  # fmt: skip
