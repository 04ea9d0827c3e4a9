"""What has nothing of a document raises no alarm: whole corpora against whole sets."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from filters.inspection.fingerprints.engine import Engine
from tests.filters.inspection.fingerprints.documents import engine, found, noise, prose

ROOT = Path(__file__).parents[4]
# not README.md: other files quote it
PAPERS = ("docs/protocol.md", "ARCHITECTURE.md", "THREAT_MODEL.md", "docs/inspection.md", "docs/reasons.md")
SYSTEM = Path("/usr/share/doc")
MOST = 24 << 20  # bytes of one corpus


def files(folder: Path) -> Iterator[bytes]:
    """Everything below a folder, in order, up to MOST bytes."""
    read = 0
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(one for one in folders if not one.startswith((".", "build")))
        for name in sorted(names):
            path = Path(where) / name
            if path.is_file() and not path.is_symlink() and path.stat().st_size < 2 << 20:
                data = path.read_bytes()
                read += len(data)
                yield data
        if read > MOST:
            return


@pytest.fixture(scope="module")
def protected() -> Engine:
    """This project's papers, as a set: 5 documents of the kind that people write."""
    return engine({Path(one).name.lower(): (ROOT / one).read_bytes() for one in PAPERS})


def test_the_papers_accuse_nothing_else_of_this_repository(protected: Engine) -> None:
    own = {(ROOT / one).read_bytes() for one in PAPERS}
    read = [
        data
        for folder in ("authn", "filters", "gateway", "hostlink", "vmhost", "tests", "scripts", "bench")
        for data in files(ROOT / folder)
    ]
    assert len(read) > 300
    assert [data[:60] for data in read if data not in own and found(protected, data)] == []
    assert all(found(protected, one) for one in own)


@pytest.mark.skipif(
    not SYSTEM.is_dir(), reason="/usr/share/doc is not there: no corpus of other people's texts"
)
def test_the_papers_accuse_nothing_of_the_system(protected: Engine) -> None:
    read = list(files(SYSTEM))
    assert read
    assert [data[:60] for data in read if found(protected, data)] == []


def test_texts_of_the_same_words_are_not_accused() -> None:
    made = engine({f"d{one}": prose(one, 20_000) for one in range(20)})
    assert [one for one in range(1000, 1100) if found(made, prose(one, 20_000))] == []
    assert found(made, noise(1, 8 << 20)) == []


def test_dull_bytes_accuse_nobody() -> None:
    tables = b"".join(b"| %4d | %4d |     |\n" % (one % 10, one % 7) for one in range(500))
    made = engine({"sheet": tables + prose(1) + bytes(3000) + b"=" * 3000})
    for dull in (bytes(100_000), b"=" * 100_000, b" " * 5000 + b"\n" * 5000, b"\0\xff" * 9000):
        assert found(made, dull) == []
