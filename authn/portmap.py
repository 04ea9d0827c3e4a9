"""The signed map of the host's bridge: which peer stands at which port, with which MAC and address.

The host enforces it (anti-spoofing), the gateway pins identities to it.
"""

import re
from dataclasses import asdict, dataclass
from ipaddress import IPv4Address
from typing import Any

from authn.signing import DocumentError, SignedDocument, sign_document

KIND = "port-map"
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")


@dataclass(frozen=True, slots=True)
class PortEntry:
    """One place on the bridge."""

    peer: str
    port: str
    mac: str
    ip: IPv4Address
    uuid: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.peer):
            raise DocumentError(
                "malformed", f"peer name {self.peer!r}: expected a-z, 0-9 and '-', at most 32"
            )
        if not _MAC.fullmatch(self.mac) or int(self.mac[:2], 16) & 1:
            raise DocumentError(
                "malformed", f"peer {self.peer}: MAC {self.mac!r}: expected a lower-case unicast address"
            )

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "PortEntry":
        """Read one entry; raises DocumentError."""
        try:
            return cls(
                str(data["peer"]),
                str(data["port"]),
                str(data["mac"]),
                IPv4Address(data["ip"]),
                str(data["uuid"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise DocumentError("malformed", f"not a port map entry: {error}") from error


@dataclass(frozen=True, slots=True)
class PortMap:
    """All places; names, ports, MACs and addresses are unique."""

    version: int
    entries: tuple[PortEntry, ...]

    def __post_init__(self) -> None:
        for what in ("peer", "port", "mac", "ip", "uuid"):
            values = [getattr(entry, what) for entry in self.entries]
            twice = sorted({str(value) for value in values if values.count(value) > 1})
            if twice:
                raise DocumentError("ambiguous", f"the port map has {what} {', '.join(twice)} more than once")

    @classmethod
    def from_document(cls, document: SignedDocument) -> "PortMap":
        """Read a verified document; raises DocumentError."""
        entries = document.payload.get("entries")
        if not isinstance(entries, list):
            raise DocumentError("malformed", "a port map has a list of entries")
        return cls(document.version, tuple(PortEntry.from_json(entry) for entry in entries))

    def sign(self, not_after: float, key: Any) -> bytes:
        """Write the map as a signed document."""
        entries = [{**asdict(entry), "ip": str(entry.ip)} for entry in self.entries]
        return sign_document(KIND, self.version, not_after, {"entries": entries}, key)
