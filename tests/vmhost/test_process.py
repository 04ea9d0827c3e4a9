"""Programs of the lab: when they count as up."""

import socket
import subprocess
import sys
import time
from pathlib import Path

from vmhost.process import Program, Rights, Running, wait_for_socket

BINDS_THEN_LISTENS = """
import socket, sys, time
one = socket.socket(socket.AF_UNIX)
one.bind(sys.argv[1])
time.sleep(float(sys.argv[2]))
one.listen()
time.sleep(30)
"""


def running(path: Path, listens_after_s: float) -> Running:
    argv = (sys.executable, "-c", BINDS_THEN_LISTENS, str(path), str(listens_after_s))
    program = Program("late", argv, "", Rights(0, 0), path.with_suffix(".log"))
    return Running(program, subprocess.Popen(argv))


def test_a_program_is_up_once_it_listens_not_once_its_socket_is_there(tmp_path: Path) -> None:
    path = tmp_path / "late.sock"
    late = running(path, 0.3)
    try:
        started = time.monotonic()
        assert wait_for_socket(path, late)
        assert time.monotonic() - started > 0.25
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
    finally:
        late.stop()


def test_a_program_that_never_listens_is_not_up(tmp_path: Path) -> None:
    path = tmp_path / "never.sock"
    never = running(path, 30)
    try:
        assert not wait_for_socket(path, never, within_s=0.5)
        assert path.is_socket()
    finally:
        never.stop()


def test_a_program_that_died_is_not_up(tmp_path: Path) -> None:
    path = tmp_path / "dead.sock"
    dead = running(path, 30)
    dead.process.kill()
    dead.process.wait(5)
    assert not wait_for_socket(path, dead)
