"""Following a console's log, which is cut when it is too long and replaced at each start."""

from collections.abc import Callable
from pathlib import Path

import pytest

from vmhost.vm.tail import follow


class Over(Exception):
    """The reader has waited as often as it was told to."""


def read(path: Path, *meanwhile: Callable[[], object]) -> bytes:
    """Follow a log; each time it pauses, the next of these happens."""
    left, got = list(meanwhile), b""

    def pause() -> None:
        if not left:
            raise Over
        left.pop(0)()

    with pytest.raises(Over):
        for piece in follow(path, forever=True, pause=pause):
            got += piece
    return got


def append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


def replace(path: Path, data: bytes) -> None:
    path.rename(path.with_suffix(".old"))
    path.write_bytes(data)


def test_without_following_it_ends_with_what_is_there(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"x" * 100_000)
    assert b"".join(follow(log, forever=False)) == b"x" * 100_000


def test_what_is_added_comes(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"one ")
    assert read(log, lambda: append(log, b"two "), lambda: append(log, b"three")) == b"one two three"


def test_a_log_that_was_cut_is_read_from_its_beginning(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"long before ")
    assert read(log, lambda: log.write_bytes(b"cut")) == b"long before cut"


def test_a_successor_is_read_and_nothing_of_the_former_is_lost(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first ")

    def restart() -> None:
        append(log, b"last words ")
        replace(log, b"second")

    assert read(log, restart) == b"first last words second"


def test_while_the_successor_is_being_made_it_waits(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"first ")
    assert read(log, log.unlink, lambda: log.write_bytes(b"second")) == b"first second"


def test_it_ends_with_its_directory(tmp_path: Path) -> None:
    log = tmp_path / "run" / "log"
    log.parent.mkdir()
    log.write_bytes(b"all")

    def down() -> None:
        log.unlink()
        log.parent.rmdir()

    assert b"".join(follow(log, forever=True, pause=down)) == b"all"


def test_rejects_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        next(follow(tmp_path / "log", forever=True))
