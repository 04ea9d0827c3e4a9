"""Read the text of XML and HTML without its marks: what an office document says, whatever program saved it.

Between two office documents of one program the marks are alike and the text is not; between two savings of one
document the marks differ and the text does not.
"""

import re
from typing import Final

_STARTS: Final = {  # and the encoding that shows in them (XML 1.0, appendix F)
    b"<\0": "utf-16-le",
    b"\0<": "utf-16-be",
    b"\xff\xfe<\0": "utf-16",
    b"\xfe\xff\0<": "utf-16",
    b"\xef\xbb\xbf<": "utf-8-sig",
    b"<": "utf-8",
}
_CDATA: Final = re.compile(r"<!\[CDATA\[|\]\]>")
_LINE: Final = re.compile(
    r"</(?:[a-z]+:)?(?:p|h|h[1-6]|si|c|row|li|td|tr|div)[ \t\r\n]*>|<(?:[a-z]+:)?(?:br|cr)\b[^<>]*>"
)
_BLANK: Final = re.compile(r"<(?:[a-z]+:)?(?:tab|s)(?:[ \t\r\n][^<>]*)?/>")
_MARK: Final = re.compile(r"<[^<>]*>")  # never looks past the next <: linear
_ENTITY: Final = re.compile(r"&(?:#(\d{1,7})|#x([0-9A-Fa-f]{1,6})|(amp|lt|gt|quot|apos|nbsp));")
_NAMED: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'", "nbsp": "\xa0"}


def is_markup(data: bytes) -> bool:
    """Tell whether bytes begin like XML or HTML."""
    return _encoding(data) is not None


def _encoding(data: bytes) -> str | None:
    head = data[:64].lstrip(b" \t\r\n")
    return next((encoding for start, encoding in _STARTS.items() if head.startswith(start)), None)


def plain(untrusted_markup: bytes) -> bytes:
    """Return the text in UTF-8: a paragraph or cell a line. Whatever comes, there is an answer."""
    text = untrusted_markup.decode(_encoding(untrusted_markup) or "utf-8", "replace")
    text = _CDATA.sub("", text)
    text = _MARK.sub("", _BLANK.sub(" ", _LINE.sub("\n", text)))
    return _ENTITY.sub(_character, text).encode("utf-8", "replace")


def _character(found: re.Match[str]) -> str:
    if found[3]:
        return _NAMED[found[3]]
    number = int(found[1]) if found[1] else int(found[2], 16)
    return chr(number) if 0 < number < 0x110000 and not 0xD800 <= number < 0xE000 else "\ufffd"
