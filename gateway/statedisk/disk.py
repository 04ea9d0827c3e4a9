"""Make and open the encrypted disk (LUKS2) with cryptsetup; keys go through pipes, never on a command line.

The sealed key is kept in the disk's own header, as a token (LUKS2 On-Disk Format 1.1, 3.4). It is written last: a
header without any token is what an interrupted first start left, and holds nothing yet. Only a header that was read
says so: where cryptsetup fails for whatever reason, the state stays closed and the disk as it is.

Whoever has the disk can write its header, and nothing in it is authenticated but the key. So it is copied once, and
what was checked in the copy is what is opened: a header may not say that the content is stored in the clear.
"""

import json
import os
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from authn.sealing import SealedKey
from gateway.errors import GatewayError

TOKEN_TYPE = "quotegate-tpm2"  # noqa: S105 - a type's name
HEADER_SIZE = (
    16 << 20
)  # the content begins behind it; a disk that begins with so many zeros was never written
TOOL_WITHIN_S = 120.0
_CIPHER, _KEY_BYTES = "aes-xts-plain64", 64
# the key is 256 random bits: stretching it adds nothing
_FORMAT = (
    "--batch-mode", "luksFormat", "--type=luks2", f"--cipher={_CIPHER}", f"--key-size={8 * _KEY_BYTES}", "--hash=sha256",
    "--pbkdf=pbkdf2", "--pbkdf-force-iterations=1000", "--key-file=-",
)  # fmt: skip
_SEGMENT = {"type", "offset", "size", "iv_tweak", "encryption", "sector_size"}
_CONFIG = {"json_size", "keyslots_size"}  # neither flags nor requirements


class DiskError(GatewayError):
    """The state can't be opened; nothing on the disk was changed, unless the message says so."""


class StateDisk:
    """One block device (or file, where nothing is opened)."""

    def __init__(self, device: Path) -> None:
        self._device = str(device)
        self._private = TemporaryDirectory(prefix="quotegate-header-")  # memory, in the image
        self._header = Path(self._private.name, "header")
        self._found: dict[str, Any] | None = None  # the tokens in the copied header

    def is_new(self) -> bool:
        """Tell whether it holds nothing: zeros, or a header of ours without a key. Raises DiskError for anything else."""
        if self._token() is not None:
            return False
        if self._tokens():
            raise self._foreign()
        return True

    def make(self, key: bytes) -> None:
        """Write a new header; whatever was there is lost. Raises DiskError."""
        self._forget()
        _run("cryptsetup", *_FORMAT, self._device, given=key)

    def keep(self, sealed: SealedKey) -> None:
        """Write the sealed key into the header; raises DiskError."""
        self._forget()
        token = {
            "type": TOKEN_TYPE,
            "keyslots": ["0"],
            "public": sealed.public.hex(),
            "private": sealed.private.hex(),
        }
        _run("cryptsetup", "token", "import", "--json-file=-", self._device, given=json.dumps(token).encode())

    def sealed_key(self) -> SealedKey:
        """Read the sealed key from the header; raises DiskError."""
        token = self._token()
        try:
            if token is None:
                raise ValueError("there is none")
            return SealedKey(bytes.fromhex(token["public"]), bytes.fromhex(token["private"]))
        except (ValueError, KeyError, TypeError) as error:
            raise DiskError(
                "bad-token", f"{self._device}: the sealed key in its header: {error}; restore the disk"
            ) from error

    def fits(self, key: bytes) -> bool:
        """Tell whether this key opens it."""
        argv = ("cryptsetup", "open", "--test-passphrase", "--type=luks2", "--key-file=-", self._device)
        return _outcome(argv, key).returncode == 0

    def open(self, key: bytes, name: str) -> Path:
        """Open it as the header that was checked says; return the device with the clear content. Raises DiskError."""
        self._tokens()
        header = f"--header={self._header}"
        _run("cryptsetup", "open", "--type=luks2", header, "--key-file=-", self._device, name, given=key)
        return Path("/dev/mapper", name)

    def _token(self) -> dict[str, Any] | None:
        return next((one for one in self._tokens().values() if one.get("type") == TOKEN_TYPE), None)

    def _tokens(self) -> dict[str, Any]:
        if self._found is None:
            self._found = self._read_tokens()
        return self._found

    def _forget(self) -> None:
        self._found = None
        self._header.unlink(missing_ok=True)

    def _read_tokens(self) -> dict[str, Any]:
        """Copy the header and read its tokens; an empty disk has none. Raises DiskError where there is no telling."""
        if not self._copy_header():
            return {}
        argv = "cryptsetup", "luksDump", "--dump-json-metadata", str(self._header)
        done = _outcome(argv, b"")
        if done.returncode:
            raise _failed(argv, done) if self._is_luks() else self._foreign()
        try:
            metadata = json.loads(done.stdout)
            tokens: dict[str, Any] = metadata["tokens"]
            if not all(isinstance(one, dict) for one in tokens.values()):
                raise TypeError("a token is not an object")
            altered = _departure(metadata)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DiskError(
                "disk-failed",
                f"{self._device}: expected the header's metadata from cryptsetup, got something else: {error}",
            ) from error
        if altered:
            raise DiskError(
                "altered-header",
                f"{self._device}: its header is not as it was made: {altered}; nothing was changed: restore the disk",
            )
        return tokens

    def _copy_header(self) -> bool:
        """Copy what stands before the content; tell whether there is anything. Raises DiskError."""
        try:
            with Path(self._device).open("rb") as disk:
                header = disk.read(HEADER_SIZE)
            self._header.write_bytes(header)
        except OSError as error:
            raise DiskError("disk-failed", f"{error}; expected a disk that can be read") from error
        return header != bytes(len(header))

    def _is_luks(self) -> bool:
        return _outcome(("cryptsetup", "isLuks", "--type=luks2", str(self._header)), b"").returncode == 0

    def _foreign(self) -> DiskError:
        return DiskError(
            "not-our-disk",
            f"{self._device}: expected an empty disk or one of ours (LUKS2), got something else; nothing was changed: "
            "give this machine its own disk, or an empty one",
        )


def _departure(metadata: dict[str, Any]) -> str:
    """Say in what a header is not like those that `make` writes, as far as that bears on encryption; "" when in nothing."""
    segments, slots = list(metadata["segments"].values()), list(metadata["keyslots"].values())
    if len(segments) != 1 or len(slots) != 1:
        return f"expected one segment and one key, got {len(segments)} and {len(slots)}"
    (segment,), (slot,), config = segments, slots, set(metadata["config"])
    way = segment["type"], segment.get("encryption")
    if way != ("crypt", _CIPHER):
        return f"expected a segment with {_CIPHER}, got {way[0]} with {way[1]}"
    if not set(segment) <= _SEGMENT or not config <= _CONFIG:
        return f"expected nothing more, got {sorted((set(segment) - _SEGMENT) | (config - _CONFIG))}"
    area = slot["area"]
    kept = slot["type"], slot["key_size"], area["encryption"], area["key_size"]
    wanted = (
        "luks2",
        _KEY_BYTES,
        _CIPHER,
        _KEY_BYTES,
    )  # another way could show a key that the TPM's does not protect
    return "" if kept == wanted else f"expected a key kept as {wanted}, got {kept}"


def make_file_system(device: Path) -> None:
    """Make an ext4 file system; raises DiskError."""
    _run("mke2fs", "-q", "-t", "ext4", "-L", "state", str(device))


def mount(device: Path, where: Path) -> None:
    """Mount it where nothing can be run from it; raises DiskError."""
    _run("mount", "-t", "ext4", "-o", "nosuid,nodev,noexec,noatime", str(device), str(where))


def _outcome(argv: tuple[str, ...], given: bytes) -> "subprocess.CompletedProcess[bytes]":
    # no udev here: the nodes in /dev/mapper are made by the library itself
    environment = {
        "PATH": os.environ.get("PATH", "/usr/sbin:/usr/bin"),
        "DM_DISABLE_UDEV": "1",
        "LC_ALL": "C",
    }
    try:
        return subprocess.run(
            argv, input=given, capture_output=True, check=False, timeout=TOOL_WITHIN_S, env=environment
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DiskError(
            "disk-failed", f"{argv[0]}: {error}; expected it to be installed and to end"
        ) from error


def _run(*argv: str, given: bytes = b"") -> None:
    done = _outcome(argv, given)
    if done.returncode:
        raise _failed(argv, done)


def _failed(argv: tuple[str, ...], done: "subprocess.CompletedProcess[bytes]") -> DiskError:
    said = done.stderr.decode(errors="replace").strip()[-300:]
    words = " ".join(argv[:2])
    return DiskError(
        "disk-failed",
        f"{words} ended with {done.returncode}: {said}; check the disk and the kernel's log",
    )
