"""Documents to protect, and what carries them."""

import io
import random
import zipfile
from collections.abc import Mapping

from filters.inspection.fingerprints.engine import Engine
from filters.inspection.fingerprints.print_set import PrintSet
from filters.inspection.fingerprints.set_file import encode
from filters.inspection.fingerprints.texts import texts_of
from filters.inspection.limits import DEFAULT_LIMITS
from filters.inspection.material import Material, SourceFile
from filters.inspection.spec import InspectionSpec
from filters.inspection.stream import StreamInspector
from filters.inspection.toolbox import Toolbox
from tests.filters.inspection.drive import Driven

SECRET_KEY = bytes(range(32))
SPEC = InspectionSpec(frozenset({"fingerprints"}))
_SYLLABLES = [
    "ba",
    "ke",
    "lo",
    "mi",
    "nu",
    "ra",
    "se",
    "ti",
    "vo",
    "za",
    "che",
    "dor",
    "fin",
    "gal",
    "hum",
    "jo",
]


def prose(seed: int, size: int = 6000) -> bytes:
    """Text as people write it: words that come again, sentences, paragraphs; the same for the same seed."""
    draw = random.Random(seed)
    words = ["".join(draw.choices(_SYLLABLES, k=draw.randint(1, 4))) for _ in range(400)]
    text = ""
    while len(text) < size:
        sentence = " ".join(draw.choices(words, k=draw.randint(5, 18)))
        text += sentence.capitalize() + ("." if draw.random() < 0.9 else ".\n\n") + " "
    return text[:size].encode()


def noise(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def print_set(
    documents: Mapping[str, bytes], common: Mapping[str, bytes] | None = None, *, secret: bytes = SECRET_KEY
) -> PrintSet:
    """A set of documents, opened as `fingerprint add` does."""
    made = PrintSet(secret)
    for harmless, some in ((False, documents), (True, common or {})):
        for name, data in some.items():
            texts = texts_of(data, name, DEFAULT_LIMITS)
            made = made.add(name, texts, len(data), 1_700_000_000, common=harmless)
    return made


def engine(documents: Mapping[str, bytes], common: Mapping[str, bytes] | None = None) -> Engine:
    return Engine(print_set(documents, common))


def found(made: Engine, data: bytes) -> list[str]:
    """The documents recognised in bytes that stand alone."""
    return [one.document for one in made.whole(data)]


def toolbox(made: PrintSet) -> Toolbox:
    return Toolbox(Material((SourceFile("documents.qgp", encode(made)),)))


def drive(made: PrintSet, spec: InspectionSpec = SPEC) -> Driven:
    """A connection that is watched for the documents of a set."""
    driven = Driven(spec)
    driven.judge = toolbox(made).judge(spec)
    driven.inspector = StreamInspector(spec, driven.judge.patterns, driven.limits, driven.judge.fingerprints)
    return driven


_HEAD = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_NAMESPACES = " ".join(
    f'xmlns:{one}="http://schemas.example.org/{one}/2006/main/{one}"' for one in _SYLLABLES
)


def docx(text: bytes, *, run: int = 9) -> bytes:
    """An office document as a program saves it: the same marks, styles and theme around every text."""
    theme = _HEAD + "".join(f'<a:clr name="accent{one}" val="{one * 4099:06x}"/>' for one in range(400))
    words = text.decode().split(" ")
    runs = "".join(
        f'<w:r w:rsidR="00A{at:05X}"><w:rPr><w:rFonts w:ascii="Calibri" w:hAnsi="Calibri"/><w:sz w:val="22"/></w:rPr>'
        f'<w:t xml:space="preserve">{" ".join(words[at : at + run])} </w:t></w:r>'
        for at in range(0, len(words), run)
    )
    body = f"{_HEAD}<w:document {_NAMESPACES}><w:body><w:p>{runs}</w:p></w:body></w:document>"
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("[Content_Types].xml", f"{_HEAD}<Types {_NAMESPACES}/>")
        archive.writestr("word/document.xml", body)
        archive.writestr("word/theme/theme1.xml", theme)
        archive.writestr("word/header1.xml", f"{_HEAD}<w:p>{prose(99, 900).decode()}</w:p>")
    return out.getvalue()
