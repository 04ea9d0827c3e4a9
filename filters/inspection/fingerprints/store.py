"""Keep a set in a file: whole or not at all, for its owner's eyes only, one writer at a time."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from filters.inspection.fingerprints.print_set import FingerprintError, PrintSet
from filters.inspection.fingerprints.set_file import MOST_BYTES, encode, parse

FILE_NAME = "fingerprints.qgp"


def set_path(where: Path) -> Path:
    """Return the set's file: `where` itself, or the one of the usual name in a directory; of a link, what it leads to."""
    path = where / FILE_NAME if where.is_dir() else where
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def read_set(where: Path) -> PrintSet:
    """Read a set; raises FingerprintError, also where there is none."""
    path = set_path(where)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError as error:
        raise FingerprintError(
            "fingerprint-set",
            f"{path}: No such file or directory; begin a set with: quotegate fingerprint add FILE --set PATH",
        ) from error
    except OSError as error:
        raise FingerprintError("fingerprint-set", f"{path}: {error.strerror or error}") from error
    if len(data) > MOST_BYTES:
        raise FingerprintError("fingerprint-set", f"{path}: expected at most {MOST_BYTES} bytes")
    try:
        return parse(data)
    except FingerprintError as error:
        raise FingerprintError(error.code, f"{path}: {error.message}") from error


@contextlib.contextmanager
def changing(where: Path) -> Iterator[None]:
    """Keep other writers of the same set waiting; raises FingerprintError when its directory can't be opened."""
    folder = set_path(where).parent
    try:
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise FingerprintError("fingerprint-set", f"{folder}: {error.strerror or error}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def write_set(where: Path, prints: PrintSet) -> None:
    """Put a set in its file's place; raises FingerprintError, then the old file stands.

    A new file is for its owner alone (mode 0600). One that was there keeps its owner, group and mode: somebody let the
    inspectors read it.
    """
    path = set_path(where)
    data = encode(prints)
    if len(data) > MOST_BYTES:
        raise FingerprintError(
            "fingerprint-set", f"{path}: expected at most {MOST_BYTES} bytes; this would be {len(data)}"
        )
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # its mode is 0600
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                if path.exists():
                    former = path.stat()
                    os.fchown(file.fileno(), former.st_uid, former.st_gid)
                    os.fchmod(file.fileno(), former.st_mode & 0o777)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise FingerprintError("fingerprint-set", f"{path}: {error.strerror or error}") from error
