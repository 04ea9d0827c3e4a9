"""The gateway's end of the line as a program."""

import asyncio
import os
import tty
from pathlib import Path

import pytest

from hostlink.main import run


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
