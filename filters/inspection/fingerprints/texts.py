"""Say which texts of a file are fingerprinted: its bytes, and what is inside, but not what every such file has."""

import io
import re
import zipfile
from collections.abc import Iterator
from typing import Final

from filters.inspection.finding import LimitHit, Refusal
from filters.inspection.fingerprints.markup import is_markup, plain
from filters.inspection.fingerprints.print_set import FingerprintError
from filters.inspection.fingerprints.recoded import in_utf8
from filters.inspection.limits import Limits
from filters.inspection.objects.archive import Budget, members
from filters.inspection.objects.file_type import file_type

_OFFICE: Final = {"[Content_Types].xml", "mimetype"}  # one of them stands in OOXML, OpenDocument and EPUB
# what the author wrote or put in. Fonts, themes, styles, headers and footers are alike in all letters of a house
_CONTENT: Final = re.compile(
    r"word/(document|footnotes|endnotes|comments)\d*\.xml|xl/sharedStrings\.xml|xl/worksheets/[^/]+\.xml"
    r"|ppt/(slides|notesSlides|comments)/[^/]+\.xml|[a-z]+/(media|embeddings|charts)/[^/]+"
    r"|content\.xml|Pictures/.+|Object [^/]+/content\.xml|.+\.x?html?"
)


def texts_of(data: bytes, name: str, limits: Limits) -> Iterator[bytes]:
    """Yield the texts of a file; raises FingerprintError for one that could not pass the gateway anyhow."""
    if len(data) > limits.object:
        raise FingerprintError(
            "fingerprint-size", f"{name}: expected at most {limits.object} bytes, as of any object in transit"
        )
    try:
        yield from _texts(data, Budget(limits), 0)
    except Refusal as refusal:
        raise FingerprintError(
            "fingerprint-file", f"{name}: {refusal.check}: {refusal.detail}; unpack it, and add its files"
        ) from refusal


def _texts(data: bytes, budget: Budget, depth: int) -> Iterator[bytes]:
    kind = file_type(data)
    if "archive" not in kind.families:
        yield data
        if recoded := in_utf8(data):
            yield recoded
        return
    if depth >= budget.limits.depth:
        raise LimitHit("depth", budget.limits.depth, " objects inside one another")
    inner = list(members(data, kind.media_type, budget))
    if data[:4] != b"PK\x03\x04" or not _OFFICE & {name for name, _ in inner}:
        yield data
        for _, content in inner:
            yield from _texts(content, budget, depth + 1)
        return
    yield from _packed(data)
    for name, content in inner:
        if _CONTENT.fullmatch(name):
            yield from [plain(content)] if is_markup(content) else _texts(content, budget, depth + 1)


def _packed(data: bytes) -> Iterator[bytes]:
    """Yield an office document's content as it is packed: it is seen like that where nobody unpacks it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        infos = [one for one in archive.infolist() if _CONTENT.fullmatch(one.filename)]
    for one in infos:
        sizes = data[one.header_offset + 26 : one.header_offset + 30]
        start = (
            one.header_offset + 30 + int.from_bytes(sizes[:2], "little") + int.from_bytes(sizes[2:], "little")
        )
        yield data[start : start + one.compress_size]
