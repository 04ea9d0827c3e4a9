"""Judge what an object is decoded from: many receivers keep it as it came, and then it may be a file of its own."""

import re
from dataclasses import dataclass
from typing import Final

from filters.inspection.objects.archive_kinds import PARTS, surely
from filters.inspection.objects.file_type import FileType, file_type
from filters.inspection.objects.zip_signs import SHORT, are_shown, marks

_FORM: Final = {"gzip": "gzip", "x-gzip": "gzip", "zstd": "zstd"}  # what a coding looks like as a file
# what libmagic does not see by chance in thousands of files that were made smaller; audio and text it does
_TOLD: Final = frozenset({"executable", "script", "document"})
_BEGINS = re.compile(rb"#![ \t]*/|\x7fELF|\xfe\xed\xfa[\xce\xcf]|[\xce\xcf]\xfa\xed\xfe")
_MARK: Final = 64  # bytes of an archive by which it is known again


@dataclass(frozen=True, slots=True)
class AsSent:
    """The bytes that one coding of an object was undone from."""

    coding: str
    data: bytes


def own_type(sent: AsSent) -> FileType | None:
    """Return the type of coded bytes if they are more than just coded."""
    kind = file_type(sent.data)
    if kind.media_type == "application/octet-stream" and not _BEGINS.match(sent.data):
        return None  # two bytes alone say too little
    return kind if kind.families & _TOLD or kind.media_type == "text/html" else None


def hides_archive(sent: AsSent, shown: bytes) -> bool:
    """Tell whether programs find an archive in coded bytes which what they decode to does not hold.

    What a coder can't make smaller it passes on as it is: then it is shown as well, and opened there.
    """
    for kind, place in surely(sent.data).items():
        if place == 0 and kind == _FORM.get(sent.coding):
            continue
        if kind == "zip" and not sent.data.startswith(b"PK\x03\x04"):
            continue  # by its end: that is looked for on the way, with what it decodes to (hidden.py)
        if kind == PARTS:
            if not are_shown(sent.data, marks(shown, SHORT)):
                return True
            continue
        if sent.data[place : place + _MARK] not in shown:
            return True
    return False
