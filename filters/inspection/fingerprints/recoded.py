"""Read text of another character set in UTF-8: one program saves a text in UTF-8, another in UTF-16 or GB 18030."""

import codecs
import re
from typing import Final

from filters.inspection.coding.wide import LOOKED_AT, begins_wide

_MARKS: Final = {
    b"\xff\xfe\0\0": "utf-32",
    b"\0\0\xfe\xff": "utf-32",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
_NO_ASCII: Final = re.compile(rb"[\x80-\xff]")
_TRIED: Final = 4096  # bytes from the first that is no ASCII: by chance these are not in order for any set


def in_utf8(untrusted_text: bytes) -> bytes | None:
    """Return a text in UTF-8, or None where it is that already, or is none. Whatever comes, there is an answer."""
    encoding = _encoding(untrusted_text)
    if encoding is None:
        return None
    return untrusted_text.decode(encoding, "replace").removeprefix("\ufeff").encode("utf-8", "replace")


def _encoding(data: bytes) -> str | None:
    if begins_wide(data):
        head = data[:LOOKED_AT]
        # without a mark zeros second are UTF-16 as Windows writes it
        guess = "utf-16-le" if head[1::2].count(0) > head[::2].count(0) else "utf-16-be"
        return next((name for mark, name in _MARKS.items() if data.startswith(mark)), guess)
    other = _NO_ASCII.search(data)
    if not other:
        return None
    some = data[other.start() : other.start() + _TRIED]
    return "gb18030" if not _is(some, "utf-8") and _is(some, "gb18030") else None


def _is(data: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(data)  # a character at the end may be cut
    except UnicodeDecodeError:
        return False
    return True
