"""Commands over a serial port, against a stand-in for busybox' shell with a line editor."""

import re
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from vmhost.errors import HostError
from vmhost.vm import recovery
from vmhost.vm.recovery import run_in_guest

LONGEST = 1023  # of busybox' line editor


class Shell:
    """Echoes, prompts, drops what makes a line too long, runs the rest; an open quotation waits for its end."""

    def __init__(self, path: Path, *, mute: bool = False) -> None:
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen(1)
        self.mute, self.pending, self.lines = mute, "", 0
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                while data := connection.recv(65536):
                    if not self.mute:
                        for piece in re.findall(rb"\x03|[^\x03\n]*\n", data):
                            connection.sendall(self._take(piece.decode()))

    def _take(self, piece: str) -> bytes:
        if piece == "\x03":
            self.pending = ""
            return b"^C\n~ # \x1b[6n"
        self.lines += 1
        self.pending += piece[:-1][:LONGEST] + "\n"
        if self.pending.count("'") % 2:
            return piece.encode() + b"> \x1b[6n"
        script, self.pending = self.pending, ""
        done = subprocess.run(["sh", "-c", script], capture_output=True, check=False)
        return piece.encode() + done.stdout + b"~ # \x1b[6n"


@contextmanager
def shell(path: Path, *, mute: bool = False) -> Iterator[Shell]:
    one = Shell(path, mute=mute)
    try:
        yield one
    finally:
        one.listener.close()


def test_a_command_brings_its_status_and_what_it_wrote(tmp_path: Path) -> None:
    with shell(tmp_path / "port"):
        done = run_in_guest(tmp_path / "port", ("sh", "-c", "echo out; echo err >&2; exit 3"), 10)
        assert (done.status, done.output) == (3, b"out\nerr\n")
        assert run_in_guest(tmp_path / "port", ("true",), 10).output == b""


@pytest.mark.parametrize("size", [500, 700, 5000])
def test_a_command_longer_than_a_line_arrives_whole(tmp_path: Path, size: int) -> None:
    text = 'a $b "c" ' + "x" * size
    with shell(tmp_path / "port") as one:
        done = run_in_guest(tmp_path / "port", ("printf", "%s", text), 10)
        assert done.output.decode() == text
        assert (one.lines == 1) is (size == 500)


def test_a_line_that_somebody_left_open_is_forgotten(tmp_path: Path) -> None:
    with shell(tmp_path / "port") as one:
        one.pending = "echo 'abc\n"
        assert run_in_guest(tmp_path / "port", ("echo", "x"), 10).output == b"x\n"


def test_rejects_a_machine_that_says_nothing(tmp_path: Path) -> None:
    with shell(tmp_path / "port", mute=True), pytest.raises(HostError) as refused:
        run_in_guest(tmp_path / "port", ("true",), 1.5)
    assert refused.value.code == "recovery-timeout"


def test_rejects_a_machine_that_is_off(tmp_path: Path) -> None:
    with pytest.raises(HostError) as refused:
        run_in_guest(tmp_path / "port", ("true",), 1)
    assert refused.value.code == "no-recovery"


def test_of_what_a_guest_writes_before_a_prompt_its_end_alone_is_searched(monkeypatch) -> None:
    """Else one that writes beginnings of prompts for ever holds the monitor up for seconds."""
    searched: list[int] = []

    class Prompt:
        def search(self, got: bytes, at: int = 0) -> object:
            searched.append(len(got) - at)
            return got.endswith(b"~ # ") or None

    monkeypatch.setattr(recovery, "_PROMPT", Prompt())
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"# <" * 40_000 + b"~ # ")
        assert recovery._prompted(ours, time.monotonic() + 5)
    assert max(searched) <= recovery._PROMPT_SIZE
