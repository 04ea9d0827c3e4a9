"""Read text in character sets whose ASCII is not ASCII's: patterns would look for words that are written in other bytes."""

import codecs
import re
from encodings import normalize_encoding
from encodings.aliases import aliases
from typing import Final

_LABEL = re.compile(r";\s*charset\s*=\s*[\"']?([^\s;\"']{1,40})", re.IGNORECASE)
# Python's names; all other sets that programs know have ASCII in them
FOREIGN: Final = frozenset(
    {"utf_7", "utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be", "hz"}
    | {"cp037", "cp273", "cp424", "cp500", "cp875", "cp1026", "cp1140"}
)
# as browsers do; who begins with another mark is known by it (wide.py)
_UNSAID: Final = {"utf_16": "utf_16_le", "utf_32": "utf_32_le"}


class Recoded:
    """One text, from its own set to UTF-8, in pieces of any size."""

    def __init__(self, name: str) -> None:
        self._decoder = codecs.getincrementaldecoder(name)("replace")

    def feed(self, data: bytes) -> bytes:
        """Return what `data` says; a character that is not whole waits."""
        return self._decoder.decode(data).encode("utf-8", "replace")

    def finish(self) -> bytes:
        """Say that no more comes; return what waited."""
        return self._decoder.decode(b"", True).encode("utf-8", "replace")


def foreign(content_type: str) -> Recoded | None:
    """Return what reads the text of a Content-Type that names such a set."""
    label = _LABEL.search(content_type)
    return named(label[1]) if label else None


def named(charset: str) -> Recoded | None:
    """Return what reads the text of such a set."""
    name = normalize_encoding(charset).lower()
    name = aliases.get(name, name)
    name = _UNSAID.get(name, name)
    return Recoded(name) if name in FOREIGN else None
