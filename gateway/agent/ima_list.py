"""Read the kernel's list of measured files, a piece at a time: the gateway keeps what it has been sent."""

from pathlib import Path

MAX_PIECE = 512 << 10


class ImaList:
    """The list at `path` (securityfs' `binary_runtime_measurements`); None: this machine has none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._sent = 0

    def whole(self) -> bytes:
        """Return the list from its beginning, for a handshake."""
        self._sent = 0
        return self._read(-1)

    def more(self) -> bytes:
        """Return what was not sent yet, at most MAX_PIECE bytes: a longer rest goes with the next quote."""
        return self._read(MAX_PIECE)

    def _read(self, size: int) -> bytes:
        if self._path is None:
            return b""
        with self._path.open("rb") as file:
            file.seek(self._sent)
            piece = file.read(size)
        self._sent += len(piece)
        return piece
