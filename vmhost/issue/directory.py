"""Write what was issued into a new directory: whole or not at all, and never over anything."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from vmhost.errors import HostError


@contextmanager
def new_directory(target: Path) -> Iterator[Path]:
    """Give a directory to fill; it takes its name when that went well, and is gone when not. Raises HostError."""
    if target.exists() or target.is_symlink():
        raise HostError(
            "exists",
            f"{target}: checked before writing: expected a name that is free, found something there; nothing is "
            "overwritten: name another with --out",
        )
    try:
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    except OSError as error:
        raise _unwritable(target, error) from error
    try:
        scratch.chmod(0o755)
        yield scratch
        scratch.rename(target)
    except OSError as error:
        raise _unwritable(target, error) from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def write_files(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write files by their path below a directory; raises OSError."""
    for name, content in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755 if content.startswith(b"#!") else 0o644)


def _unwritable(target: Path, error: OSError) -> HostError:
    return HostError(
        "unwritable",
        f"{target}: writing what was issued: expected a directory with room, got {error.strerror or error}; "
        "name another with --out",
    )
