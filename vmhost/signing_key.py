"""Read the Ed25519 key that an administrator signs with from a file, and name its public half."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.signing import key_id
from vmhost.errors import HostError


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """Load such a key: 64 hex digits; raises HostError `bad-key`."""
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
    except (OSError, ValueError) as error:
        raise HostError(
            "bad-key", f"{path}: expected a file with 64 hex digits (an Ed25519 key), got: {error}"
        ) from error


def public_keys(key: Ed25519PrivateKey) -> dict[str, str]:
    """Return the public key of its signatures, hex by id, as setup files have it."""
    public = key.public_key().public_bytes_raw()
    return {key_id(public): public.hex()}
