"""Tell by the bytes before a match whether it is one: any four bytes stand somewhere in much that is no text."""

import re
from functools import lru_cache
from typing import Final

BEFORE: Final = 48  # bytes that are looked at
_ODD: Final = 10  # of so many characters one may be unusual, and one of fewer
# of up to 4 KiB, in four bytes; or, of up to 255 characters, as Excel has it
_LENGTH = re.compile(rb"(?:[\0-\xff][\0-\x0f]\0\0|\0\0[\0-\x0f][\0-\xff]|[\0-\xff]\0\x01)\Z")
_BASE64 = re.compile(rb"[0-9A-Za-z+/\r\n]{%d}" % BEFORE)
# Latin, Greek, Cyrillic, punctuation; signs, lines, boxes and stars, as stand before a mark; kana, Chinese, Hangul,
# the bullets of Symbol and Wingdings, full width, emoji
_USUAL = re.compile(
    "[\0-\u024f\u0370-\u052f\u2000-\u27bf\u2b00-\u2bff\u3000-\u33ff\u4e00-\u9fff\uac00-\ud7a3"
    "\uf000-\uf0ff\ufe0f\ufe30-\ufe4f\uff00-\uffef\U0001f000-\U0001faff]"
)


def stands_alone(before: bytes) -> bool:
    """Tell whether these bytes are not BEFORE of base64, which may go on behind them and a line end."""
    return not _BASE64.fullmatch(before)


def stands_in_text(before: bytes, encoding: str) -> bool:
    """Tell whether text goes on, or a string with its length begins, behind these bytes: at most BEFORE, or all there are."""
    if _LENGTH.search(before):
        return True
    if encoding.startswith("utf-16"):
        return _is_text(
            before[len(before) % 2 :].decode(encoding, "replace").rpartition("\ufeff")[2], encoding
        )
    # where the first character begins is not known
    return any(_is_text(before[skip:].decode(encoding, "replace"), encoding) for skip in range(4))


def _is_text(text: str, encoding: str) -> bool:
    may_be_odd = max(1, len(text) // _ODD)
    for one in text:
        may_be_odd -= not _is_usual(one, encoding)
        if may_be_odd < 0:
            return False
    return True


def _is_usual(one: str, encoding: str) -> bool:
    if one < "\x80" or encoding.startswith("utf"):
        return _USUAL.match(one) is not None
    return (encoding == "gb18030" and _in("gb2312", one)) or _in("big5", one)


@lru_cache(maxsize=8192)
def _in(standard: str, one: str) -> bool:
    """Tell whether a standard has a character; of Big5 the first level, the usual ones, counts."""
    try:
        code = one.encode(standard)
    except UnicodeEncodeError:
        return False
    return standard == "gb2312" or code < b"\xc9"
