"""What is no regular file is an OSError, whatever it is called."""

import os
from pathlib import Path

import pytest

from vmhost.regular import open_regular


@pytest.mark.parametrize("name", ["fifo", "directory", "none", "a\0b"])
def test_rejects_what_is_no_regular_file(tmp_path: Path, name: str) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "directory").mkdir()
    with pytest.raises(OSError):
        open_regular(tmp_path / name)
