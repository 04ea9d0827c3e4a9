"""Read the public area of a TPM's endorsement key from a file, in any of the forms that tools write it."""

import binascii
from pathlib import Path

from authn.errors import AttestationError
from authn.public_area import check_ek
from vmhost.errors import HostError

_MOST = 4096


def read_ek(path: Path) -> bytes:
    """Return a TPMT_PUBLIC: from hex (`quotegate-agent identity`), or as tpm2_readpublic -o writes it. Raises HostError."""
    try:
        with path.open("rb") as file:
            untrusted = file.read(_MOST)
    except OSError as error:
        raise HostError(
            "unreadable", f"{path}: reading the endorsement key: expected a file, got: {error.strerror}"
        ) from error
    public = _without_size(_from_hex(untrusted))
    try:
        check_ek(public)
    except AttestationError as error:
        raise HostError(
            "bad-ek",
            f"{path}: checked the endorsement key: expected the public area of an ECC P-256 one, got: {error.message}; "
            "have the machine write it: quotegate-agent identity >ek.hex",
        ) from error
    return public


def _from_hex(data: bytes) -> bytes:
    try:
        return binascii.unhexlify(data.strip())
    except ValueError:
        return data


def _without_size(data: bytes) -> bytes:
    """Take the size off that a TPM2B_PUBLIC begins with; no TPMT_PUBLIC begins with its own length."""
    return data[2:] if int.from_bytes(data[:2]) == len(data) - 2 else data
