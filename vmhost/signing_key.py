"""Read the Ed25519 key that an administrator signs with from a file."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from vmhost.errors import HostError


def load_signing_key(path: Path) -> Ed25519PrivateKey:
    """Load such a key: 64 hex digits; raises HostError `bad-key`."""
    try:
        return Ed25519PrivateKey.from_private_bytes(bytes.fromhex(path.read_text().strip()))
    except (OSError, ValueError) as error:
        raise HostError(
            "bad-key", f"{path}: expected a file with 64 hex digits (an Ed25519 key), got: {error}"
        ) from error
