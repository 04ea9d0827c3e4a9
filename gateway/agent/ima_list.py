"""Read the kernel's list of measured files, a piece at a time: the gateway keeps what it has been sent."""

from pathlib import Path

from authn.errors import AuthnError
from authn.ima import MAX_AHEAD, MAX_LIST


class ImaList:
    """The list at `path` (securityfs' `binary_runtime_measurements`); None: this machine has none."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._sent = 0

    def whole(self) -> bytes:
        """Return the list from its beginning, for a handshake. Raises OSError, and AuthnError for one that no gateway takes."""
        self._sent = 0
        return self._read(MAX_LIST, "restart this machine: its list begins anew then")

    def more(self) -> bytes:
        """Return what was not sent yet. Raises OSError, and AuthnError for more than a record takes.

        A quote is about all of it: with a part no quote would fit, but a new handshake takes the whole list.
        """
        return self._read(MAX_AHEAD, "it is sent whole with a new handshake")

    def _read(self, most: int, what_next: str) -> bytes:
        if self._path is None:
            return b""
        with self._path.open("rb") as file:
            file.seek(self._sent)
            piece = file.read(most + 1)
        if len(piece) > most:
            raise AuthnError(
                "long-ima-list",
                f"{self._path}: reading the measured files: expected at most {most} bytes at once, got more; {what_next}",
            )
        self._sent += len(piece)
        return piece
