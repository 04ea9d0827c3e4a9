"""Put a machine's own settings on a disk of theirs: a tar that the guest unpacks. Nothing in it is run.

It is read-only to the guest and holds nothing secret: names, addresses, public keys, signed documents.
"""

import io
import json
import tarfile
from collections.abc import Mapping
from ipaddress import IPv4Interface
from pathlib import Path

from authn.portmap import PortEntry
from vmhost.durable import write_durably

SETUP, DIRECTORY = "setup.json", "/config"
_SECTOR = 512


def network_text(entry: PortEntry, network: IPv4Interface) -> str:
    """Write what the guest's first program reads: NAME, ADDRESS, PREFIX, GATEWAY."""
    words = {
        "NAME": entry.peer,
        "ADDRESS": entry.ip,
        "PREFIX": network.network.prefixlen,
        "GATEWAY": network.ip,
    }
    return "".join(f"{name}={value}\n" for name, value in words.items())


def write_settings(
    target: Path, setup: Mapping[str, object], network: str, files: Mapping[str, bytes]
) -> None:
    """Write the disk with what `pack_settings` gives; raises OSError, ValueError."""
    write_durably(target, pack_settings(setup, network, files))


def unpack_settings(packed: bytes) -> dict[str, bytes]:
    """Return what is on such a disk by name; raises ValueError when it is none."""
    try:
        with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
            found = {one.name: archive.extractfile(one) for one in archive if one.isfile()}
            return {name: file.read() for name, file in found.items() if file is not None}
    except tarfile.TarError as error:
        raise ValueError(f"not a disk of settings: {error}") from error


def pack_settings(setup: Mapping[str, object], network: str, files: Mapping[str, bytes]) -> bytes:
    """Return the disk: the setup file, the network, and what the setup refers to below `DIRECTORY`.

    Raises ValueError for a name that a tar has no room for.
    """
    setup_file = json.dumps(setup, indent=1).encode() + b"\n"
    return pack_files({SETUP: setup_file, "network": network.encode(), **files})


def pack_files(content: Mapping[str, bytes]) -> bytes:
    """Return a disk with these files; raises ValueError as `pack_settings` does."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in sorted(content.items()):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o644
            archive.addfile(member, io.BytesIO(data))
    data = packed.getvalue()
    return data + bytes(-len(data) % _SECTOR)
