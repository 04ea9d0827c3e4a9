"""Tell text in UTF-16 and UTF-32, which has zeros between its ASCII characters."""

import re
from typing import Final

LOOKED_AT: Final = 512  # bytes: a text shows by its beginning how it is written
_MARKS: Final = (b"\xff\xfe", b"\xfe\xff", b"\0\0\xfe\xff")
_RUN = re.compile(rb"\x00[\x20-\x7e]" + rb"\x00{1,3}[\x20-\x7e]" * 6 + rb"\x00")


def begins_wide(start: bytes) -> bool:
    """Tell whether a text that begins so is wide: by its mark, or eight characters of ASCII in a row."""
    return start.startswith(_MARKS) or _RUN.search(start, 0, LOOKED_AT) is not None


def narrowed(data: bytes) -> bytes:
    """Return a wide text's ASCII characters as bytes; what is none of ASCII stays as it is."""
    return data.replace(b"\0", b"")
