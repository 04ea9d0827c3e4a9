"""Check the firmware against its signed golden copy before each start, and restore it where it differs.

A golden directory holds the copy and a document of kind `firmware` that an administrator signed over its
SHA-256. The copy is trusted by that signature alone, not by where it lies.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.signing import DocumentError, sign_document, verify_document
from vmhost.durable import write_durably
from vmhost.errors import HostError
from vmhost.regular import open_regular
from vmhost.signing_key import check_version

KIND = "firmware"
COPY, DOCUMENT = "OVMF_CODE.fd", "firmware.signed"
MAX_FIRMWARE = 64 << 20


@dataclass(frozen=True, slots=True)
class Outcome:
    """The installed firmware is the golden one. `found` is what was there before: None when it could not be read."""

    digest: str
    version: int
    restored: bool
    found: str | None

    @property
    def described(self) -> str:
        """Say what was wrong with the installed one; "" when nothing was."""
        if not self.restored:
            return ""
        found = self.found or "no readable file"
        return f"its firmware was restored from the golden copy: expected SHA-256 {self.digest}, got {found}"


def sign_golden(
    firmware: Path, golden_dir: Path, version: int, not_after: float, key: Ed25519PrivateKey
) -> str:
    """Make a golden directory from a firmware known to be good; returns its SHA-256. Raises HostError."""
    check_version(version)
    content = _read(firmware, "firmware-missing", "install the ovmf package")
    digest = hashlib.sha256(content).hexdigest()
    if not golden_dir.parent.is_dir():
        raise HostError(
            "no-state",
            f"{golden_dir.parent}: looked for the state of the lab that starts from it: expected a directory, found none; "
            "nothing was signed: name the lab that is there: --lab",
        )
    golden_dir.mkdir(exist_ok=True)
    write_durably(golden_dir / COPY, content)
    write_durably(golden_dir / DOCUMENT, sign_document(KIND, version, not_after, {"sha256": digest}, key))
    return digest


def check_firmware(installed: Path, golden_dir: Path, keys: Mapping[str, bytes], now: float) -> Outcome:
    """Return once the installed firmware is the golden one, restored if need be; raises HostError: start nothing."""
    version, expected, content = verify_golden(golden_dir, keys, now)
    found = _digest_of(installed)
    if found == expected:
        return Outcome(expected, version, restored=False, found=found)
    try:
        write_durably(installed, content)
    except OSError as error:
        raise HostError(
            "firmware-not-restored",
            f"{installed}: expected SHA-256 {expected}, got {found}, and restoring it failed: {error}; "
            "nothing was started: make its directory writable or free space on it, then start again",
        ) from error
    again = _digest_of(installed)
    if again != expected:
        raise HostError(
            "firmware-not-restored",
            f"{installed}: measured again after it was restored: expected SHA-256 {expected}, got {again}; "
            "nothing was started: find out who writes to this file, and check the disk",
        )
    return Outcome(expected, version, restored=True, found=found)


def verify_golden(golden_dir: Path, keys: Mapping[str, bytes], now: float) -> tuple[int, str, bytes]:
    """Return version, digest and content of the golden copy, all verified; raises HostError."""
    advice = (
        "nothing was started: sign a golden copy anew from the distribution's package (quotegate-host golden sign FILE), "
        "then try again"
    )
    untrusted = _read(golden_dir / DOCUMENT, "golden-missing", advice)
    try:
        document = verify_document(untrusted, KIND, keys, now)
    except DocumentError as error:
        raise HostError(
            "golden-refused",
            f"{golden_dir / DOCUMENT}: checked signature, kind and date: {error}; {advice}",
            cause=error.code,
        ) from error
    expected = document.payload.get("sha256")
    content = _read(golden_dir / COPY, "golden-missing", advice)
    digest = hashlib.sha256(content).hexdigest()
    if digest != expected:
        raise HostError(
            "golden-altered",
            f"{golden_dir / COPY}: checked against its signed document: expected SHA-256 {expected}, got {digest}; "
            f"{advice}",
        )
    return document.version, digest, content


def _digest_of(path: Path) -> str | None:
    try:
        return hashlib.sha256(_read(path, "", "")).hexdigest()
    except HostError:
        return None  # it can't be the golden one


def _read(path: Path, code: str, advice: str) -> bytes:
    try:
        with open_regular(path) as file:
            content = file.read(MAX_FIRMWARE + 1)
    except OSError as error:
        raise HostError(code, f"{path}: expected a readable file, got {error}; {advice}") from error
    if len(content) > MAX_FIRMWARE:
        raise HostError(code, f"{path}: expected at most {MAX_FIRMWARE} bytes, got more; {advice}")
    return content
