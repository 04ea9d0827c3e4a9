"""Telling who started a service that it is up."""

import socket
from pathlib import Path

import pytest

from filters.notify import alive, ready


@pytest.mark.parametrize("abstract", [False, True])
def test_tells_at_the_named_socket(tmp_path: Path, monkeypatch, abstract: bool) -> None:
    name = f"qg-notify-{tmp_path.name}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0{name}" if abstract else name)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        ready()
        assert listener.recv(64) == b"READY=1"
        alive()
        assert listener.recv(64) == b"WATCHDOG=1"


def test_nobody_waits_nobody_is_told(monkeypatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    ready()
    alive()


def test_a_sign_of_life_waits_for_nobody(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
    alive()  # nobody is there
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        for _ in range(2000):  # more than its queue takes
            alive()
        assert listener.recv(64) == b"WATCHDOG=1"
