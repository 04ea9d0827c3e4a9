"""Read the Ed25519 key that an administrator signs with from a file, name its public half, and check what is to be signed."""

from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.signing import MAX_VERSION, key_id
from vmhost.errors import HostError
from vmhost.spec import MOST_DAYS


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


def check_version(version: int) -> None:
    """Refuse to sign a version that whoever verifies it would refuse; raises HostError `bad-version`."""
    if not 0 <= version <= MAX_VERSION:
        raise HostError(
            "bad-version",
            f"--version: expected 0 to {MAX_VERSION}, got {version}; nothing was signed: correct it",
        )


def check_days(days: float) -> None:
    """Refuse to sign for so many days; raises HostError `bad-days`."""
    if not 0 < days <= MOST_DAYS:
        raise HostError(
            "bad-days",
            f"--days: expected more than 0 and at most {MOST_DAYS}, got {days:g}; nothing was signed: correct it",
        )


def end_of(days: float, now: float) -> float:
    """Return when a document ends that is to hold for so many days; raises HostError `bad-days`."""
    check_days(days)
    return now + days * 86400
