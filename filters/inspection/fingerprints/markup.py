"""Read the text of XML and HTML without its marks: what an office document says, whatever program saved it.

Between two office documents of one program the marks are alike and the text is not; between two savings of one
document the marks differ and the text does not.
"""

import re
from typing import Final

_STARTS: Final = (b"<", b"\xef\xbb\xbf<", b"\xff\xfe<\0", b"\xfe\xff\0<")
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
    return data[:64].lstrip(b" \t\r\n").startswith(_STARTS)


def plain(untrusted_markup: bytes) -> bytes:
    """Return the text in UTF-8: a paragraph or cell a line. Whatever comes, there is an answer."""
    two_bytes = untrusted_markup.startswith((b"\xff\xfe", b"\xfe\xff"))
    text = untrusted_markup.decode("utf-16" if two_bytes else "utf-8-sig", "replace")
    text = _CDATA.sub("", text)
    text = _MARK.sub("", _BLANK.sub(" ", _LINE.sub("\n", text)))
    return _ENTITY.sub(_character, text).encode("utf-8", "replace")


def _character(found: re.Match[str]) -> str:
    if found[3]:
        return _NAMED[found[3]]
    number = int(found[1]) if found[1] else int(found[2], 16)
    return chr(number) if 0 < number < 0x110000 and not 0xD800 <= number < 0xE000 else "\ufffd"
