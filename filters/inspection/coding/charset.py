"""Read text in character sets whose ASCII is not ASCII's: patterns would look for words that are written in other bytes."""

import codecs
import re
from encodings import normalize_encoding
from encodings.aliases import aliases
from typing import Final

from filters.inspection.coding.iso_2022 import Unchanged

# wherever it stands; what is blank is not tried again, or many blanks would cost the square of their number
_LABEL = re.compile(r"charset\*?\s*+=\s*+(?:[\"']\s*+)?([^\s;,\"]{1,60})", re.IGNORECASE)
# Python's names; all other sets that programs know have ASCII in them
FOREIGN: Final = frozenset(
    {"utf_7", "utf_16_le", "utf_16_be", "utf_32_le", "utf_32_be", "hz"}
    | {"cp037", "cp273", "cp424", "cp500", "cp875", "cp1026", "cp1140"}
)  # fmt: skip
# their text is ASCII between shifts; that of the other sets of ISO-2022 without any label (said.py)
_SHIFTING: Final = frozenset({"iso2022_kr", "iso_2022_cn", "iso_2022_cn_ext"})
# as browsers do (encoding.spec.whatwg.org); who begins with another mark is known by it (wide.py)
_UNSAID: Final = {
    "utf_16": "utf_16_le",
    "utf_32": "utf_32_le",
    **dict.fromkeys(
        ("unicode", "ucs_2", "iso_10646_ucs_2", "csunicode", "unicodefeff", "csutf16", "csutf16le"),
        "utf_16_le",
    ),
    **dict.fromkeys(("unicodefffe", "csutf16be"), "utf_16_be"),
}


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


Reader = Recoded | Unchanged


def foreign(content_type: str) -> list[Reader]:
    """Return what reads the text of a Content-Type that names such sets; of several, programs take the first or the last."""
    found = _LABEL.findall(content_type)
    labels = (one.rsplit("'", 1)[-1] if "''" in one else one.strip("'") for one in (*found[:1], *found[-1:]))
    names = dict.fromkeys(_name(one) for one in labels)
    return [reader for name in names if (reader := _reader(name))]


def named(charset: str) -> Reader | None:
    """Return what reads the text of such a set."""
    return _reader(_name(charset))


def _reader(name: str) -> Reader | None:
    if name in _SHIFTING:
        return Unchanged(shifts=True)
    return Recoded(name) if name in FOREIGN else None


def _name(charset: str) -> str:
    name = normalize_encoding(charset.strip()).lower()
    name = aliases.get(name, name)
    return _UNSAID.get(name, name)
