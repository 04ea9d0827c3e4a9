"""Tell whoever started this service how it is (sd_notify(3)): nobody has to look again and again."""

import contextlib
import os
import socket


def ready() -> None:
    """Say that it is up to systemd, where that started us and waits for it (`Type=notify`); raises OSError."""
    _tell(b"READY=1")


def alive() -> None:
    """Say that it still works to systemd, where that ends who is silent (`WatchdogSec=`). What does not go through is lost."""
    with contextlib.suppress(OSError):
        _tell(b"WATCHDOG=1", socket.MSG_DONTWAIT)


def _tell(what: bytes, flags: int = 0) -> None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as teller:
        teller.sendto(what, flags, f"\0{path[1:]}" if path.startswith("@") else path)
