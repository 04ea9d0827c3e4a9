"""The gateway's end of the line as a program."""

import asyncio
import os
import tty
from pathlib import Path

import pytest

from hostlink.errors import LinkError
from hostlink.main import main, run


def test_without_its_socket_it_ends_at_once(tmp_path: Path) -> None:
    """Else the gateway's wishes would come to nobody, and nothing would say why."""
    host, gateway = os.openpty()
    tty.setraw(gateway)
    try:
        nowhere = tmp_path / "missing" / "monitor.sock"
        work = run(Path(os.ttyname(gateway)), tmp_path / "api.sock", nowhere, os.getuid())
        with pytest.raises(FileNotFoundError):
            asyncio.run(asyncio.wait_for(work, 5))
    finally:
        os.close(host)
        os.close(gateway)


def test_rejects_port_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        LinkError, match="expected the serial port that the host gives, got: No such file"
    ) as raised:
        asyncio.run(run(tmp_path / "port", tmp_path / "api.sock", tmp_path / "monitor.sock", os.getuid()))
    assert raised.value.code == "no-port"


def test_what_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host, gateway = os.openpty()
    tty.setraw(gateway)
    monitor = tmp_path / "missing" / "monitor.sock"
    words = [
        "--port",
        os.ttyname(gateway),
        "--api",
        "api.sock",
        "--monitor",
        str(monitor),
        "--monitor-uid",
        "0",
    ]
    monkeypatch.setattr("sys.argv", ["hostlink", *words])
    try:
        with pytest.raises(
            SystemExit, match=f"hostlink: {monitor}: listening for the gateway's wishes: expected"
        ):
            main()
    finally:
        os.close(host)
        os.close(gateway)
