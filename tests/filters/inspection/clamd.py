"""A real clamd with a database of one signature of our own."""

import contextlib
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

BAD = b"only clamd knows this"


@contextlib.contextmanager
def clamd(directory: Path) -> Iterator[Path]:
    """Run it and yield its socket."""
    if not shutil.which("clamd"):
        pytest.skip("clamd is not installed: scripts/setup-programs installs it")
    database, path = directory / "database", directory / "clamd.ctl"
    database.mkdir()
    (database / "own.ndb").write_text(f"Own.Test:0:*:{BAD.hex()}\n")
    (directory / "clamd.conf").write_text(
        f"LocalSocket {path}\nDatabaseDirectory {database}\nForeground yes\nStreamMaxLength 1M\nUser root\n"
    )
    process = subprocess.Popen(
        ["clamd", "--config-file", str(directory / "clamd.conf")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        deadline = time.monotonic() + 30
        while not path.is_socket():
            assert process.poll() is None, process.stdout and process.stdout.read()
            assert time.monotonic() < deadline, "clamd did not come up"
            time.sleep(0.05)
        yield path
    finally:
        process.terminate()
        process.wait(20)
