"""A set of fingerprints: documents, and the secret they are read with. Pure; a changed set is a new one."""

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from filters.errors import FiltersError
from filters.inspection.fingerprints.coverage import share_recognised
from filters.inspection.fingerprints.fragments import Chooser, Names, Places, Reader, varied
from filters.inspection.fingerprints.parameters import LEAST

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
MOST_DOCUMENTS = 4096
SECRET = 32  # bytes


class FingerprintError(FiltersError):
    """A set or a document for it is refused; nothing was changed."""


@dataclass(frozen=True, slots=True, eq=False)
class Document:
    """One document. `prints` are its fragments' names, in order, each once.

    size: bytes of the file. added: when, in seconds since 1970.
    common: its text stands in harmless documents too; what it contains implicates no other document.
    recognised: of all runs of RUN bytes in it, how many in a thousand are enough for an alarm.
    """

    name: str
    size: int
    added: int
    common: bool
    recognised: int
    prints: Names


@dataclass(frozen=True, slots=True, eq=False)
class PrintSet:
    """The documents of one set."""

    secret: bytes
    documents: tuple[Document, ...] = ()

    def add(self, name: str, texts: Iterable[bytes], size: int, added: int, *, common: bool) -> "PrintSet":
        """Return the set with one more document, whose content is `texts`; raises FingerprintError."""
        self._check_new(name)
        prints, recognised = read_document(self.secret, texts)
        if len(prints) < LEAST:
            raise FingerprintError(
                "fingerprint-small",
                f"expected a text with at least {LEAST} fragments that differ from blanks and tables, about 100 "
                f"bytes; got {len(prints)}; protect so short a text with a pattern or a mark instead",
            )
        document = Document(name, size, added, common, recognised, prints)
        return replace(self, documents=(*self.documents, document))

    def _check_new(self, name: str) -> None:
        if not NAME.fullmatch(name):
            raise FingerprintError(
                "fingerprint-name",
                f"expected a name of 1 to 64 small letters, digits, dots, - and _; got {name[:80]!r}; choose one with --name",
            )
        if any(one.name == name for one in self.documents):
            raise FingerprintError(
                "fingerprint-twice",
                f"the set has a document {name!r} already; remove that first, or choose another --name",
            )
        if len(self.documents) >= MOST_DOCUMENTS:
            raise FingerprintError(
                "fingerprint-many",
                f"expected at most {MOST_DOCUMENTS} documents in one set; make another set",
            )

    def remove(self, name: str) -> "PrintSet":
        """Return the set without a document; raises FingerprintError."""
        left = tuple(one for one in self.documents if one.name != name)
        if len(left) == len(self.documents):
            raise FingerprintError(
                "fingerprint-unknown", f"the set has no document {name!r}; see: quotegate fingerprint list"
            )
        return replace(self, documents=left)


def read_document(secret: bytes, texts: Iterable[bytes]) -> tuple[Names, int]:
    """Return the names of a document's fragments, and how much of it they recognise (see Document)."""
    chooser = Chooser(secret)
    found: list[Names] = [np.empty(0, np.uint64)]
    good = whole = 0
    for text in texts:
        places, names = _read_text(chooser, text)
        found.append(np.unique(names))
        runs, enough = share_recognised(len(text), places.tolist(), names.tolist())
        good, whole = good + enough, whole + runs
    return np.unique(np.concatenate(found)), (1000 * good // whole if whole else 0)


def _read_text(chooser: Chooser, text: bytes) -> tuple[Places, Names]:
    places, names = [np.empty(0, np.intp)], [np.empty(0, np.uint64)]
    for some, their_names in Reader(chooser).read(text):
        says = varied(text, some)
        places.append(some[says])
        names.append(their_names[says])
    return np.concatenate(places), np.concatenate(names)
