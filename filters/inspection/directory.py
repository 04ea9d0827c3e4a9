"""Read a directory of operator's files: patterns and marks (*.toml), YARA rules (*.yar)."""

from pathlib import Path

from filters.inspection.material import LARGEST, SourceFile

Signature = frozenset[tuple[str, int, int]]


def signature(directory: Path) -> Signature:
    """Return what shows that files came, went or were changed: names, times (ns) and sizes in bytes."""
    found = ((one.name, one.stat()) for one in _files(directory))
    return frozenset((name, status.st_mtime_ns, status.st_size) for name, status in found)


def read_directory(directory: Path) -> list[SourceFile]:
    """Read all files but hidden ones, by name, one byte more of each than it may have; raises OSError."""
    return [_read(one) for one in sorted(_files(directory))]


def read_file(path: Path) -> SourceFile:
    """Read one file; raises OSError, ValueError."""
    one = _read(path)
    if len(one.data) > LARGEST:
        raise ValueError(f"{path.name}: expected at most {LARGEST} bytes")
    return one


def _read(path: Path) -> SourceFile:
    with path.open("rb") as file:
        return SourceFile(path.name, file.read(LARGEST + 1))


def _files(directory: Path) -> list[Path]:
    return [one for one in directory.iterdir() if one.is_file() and not one.name.startswith(".")]
