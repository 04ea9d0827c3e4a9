"""Tell whoever started this service that it is up (sd_notify(3)): nobody has to look again and again."""

import os
import socket


def ready() -> None:
    """Say so to systemd, where that started us and waits for it (`Type=notify`); raises OSError."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as teller:
        teller.sendto(b"READY=1", f"\0{path[1:]}" if path.startswith("@") else path)
