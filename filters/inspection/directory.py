"""Read a directory of operator's files: patterns and marks (*.toml), YARA rules (*.yar)."""

from pathlib import Path
from typing import Final

from filters.inspection.material import SourceFile

LARGEST: Final = 64 << 20  # bytes of one file
Signature = frozenset[tuple[str, int, int]]


def signature(directory: Path) -> Signature:
    """Return what shows that files came, went or were changed: names, times (ns) and sizes in bytes."""
    found = ((one.name, one.stat()) for one in _files(directory))
    return frozenset((name, status.st_mtime_ns, status.st_size) for name, status in found)


def read_directory(directory: Path) -> list[SourceFile]:
    """Read all files but hidden ones, by name; raises OSError, ValueError for one that is too large."""
    return [read_file(one) for one in sorted(_files(directory))]


def read_file(path: Path) -> SourceFile:
    """Read one file; raises OSError, ValueError."""
    with path.open("rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise ValueError(f"{path.name}: expected at most {LARGEST} bytes")
    return SourceFile(path.name, data)


def _files(directory: Path) -> list[Path]:
    return [one for one in directory.iterdir() if one.is_file() and not one.name.startswith(".")]
