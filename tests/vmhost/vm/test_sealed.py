"""Sealed copies: what was measured stays."""

import ctypes
import errno
import hashlib
import mmap
import os
from pathlib import Path

import pytest

from tests.vmhost.vm.specs import open_fds
from vmhost.errors import HostError
from vmhost.vm import sealed
from vmhost.vm.sealed import seal


@pytest.mark.parametrize("size", [0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, (3 << 20) + 7])
def test_digest_is_that_of_the_content(tmp_path: Path, size: int) -> None:
    content = os.urandom(size)
    path = tmp_path / "file"
    path.write_bytes(content)
    with seal(path) as copy:
        assert (copy.digest, copy.size) == (hashlib.sha256(content).hexdigest(), size)
        assert os.pread(copy.fd, size + 1, 0) == content


def test_the_copy_does_not_follow_the_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"measured")
    with seal(path) as copy:
        path.write_bytes(b"replaced")
        assert os.pread(copy.fd, 100, 0) == b"measured"


def test_nobody_writes_to_it_any_more(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x" * 5000)
    with seal(path) as copy:
        with pytest.raises(OSError) as refused:
            os.write(copy.fd, b"y")
        assert refused.value.errno == errno.EBADF  # read-only
        again = os.open(f"/proc/self/fd/{copy.fd}", os.O_RDWR)  # root may open it to write: the seals hold
        try:
            for change in (
                lambda: os.pwrite(again, b"y", 0),
                lambda: os.ftruncate(again, 1),
                lambda: os.ftruncate(again, 9000),
                lambda: os.pwrite(again, b"y", 5000),
            ):
                with pytest.raises(OSError) as refused:
                    change()
                assert refused.value.errno == errno.EPERM
            with pytest.raises(OSError):
                mmap.mmap(again, 5000, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
            f_add_seals = 1033
            assert ctypes.CDLL(None, use_errno=True).fcntl(again, f_add_seals, 1) == -1
            assert ctypes.get_errno() == errno.EPERM
        finally:
            os.close(again)
        assert hashlib.sha256(os.pread(copy.fd, 5000, 0)).hexdigest() == copy.digest


def test_nothing_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    before = open_fds()
    with seal(path) as copy:
        assert not os.get_inheritable(copy.fd)
        assert len(open_fds() - before) == 1
    for bad in (tmp_path, tmp_path / "none"):
        with pytest.raises(HostError):
            seal(bad)
    assert open_fds() == before


def test_only_regular_files(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    before = open_fds()
    with pytest.raises(HostError, match="expected a regular file"):
        seal(fifo)
    assert open_fds() == before


def test_not_more_than_so_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sealed, "MAX_SIZE", 10)
    path = tmp_path / "file"
    path.write_bytes(b"x" * 11)
    before = open_fds()
    with pytest.raises(HostError, match="expected at most 10 bytes"):
        seal(path)
    assert open_fds() == before


def test_a_failing_hash_leaves_nothing_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    before = open_fds()

    def broken(fd: int) -> tuple[str, int]:
        raise MemoryError

    monkeypatch.setattr(sealed, "_hash", broken)
    with pytest.raises(MemoryError):
        seal(path)
    assert open_fds() == before
