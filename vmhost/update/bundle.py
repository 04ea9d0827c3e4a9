"""An update as a directory: the signed manifest and the files it names. Write one, and check one before it is applied."""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.reference import KIND as REFERENCES
from authn.reference import ReferenceSet
from authn.signing import DocumentError, verify_document
from vmhost.errors import HostError
from vmhost.image.approve import approve, check_approval
from vmhost.image.esp import read_program
from vmhost.image.predict import Events, predict
from vmhost.image.references import Image, value_name
from vmhost.names import GATEWAY
from vmhost.regular import open_regular
from vmhost.signing_key import check_version
from vmhost.update.manifest import BOOT, MANIFEST, ROOT, FileFacts, Manifest, read_manifest

MAX_MANIFEST = 1 << 20
MAX_STEP = 1000  # a TPM counts its least version up one by one


@dataclass(frozen=True, slots=True)
class Bundle:
    """A directory whose manifest was verified. Its files were not looked at yet."""

    directory: Path
    manifest: Manifest

    @property
    def version(self) -> int:
        """The image's version."""
        return self.manifest.version


@dataclass(frozen=True, slots=True)
class InForce:
    """What an update has to fit. `keys` are the administrators' by id, `authority` its P-256 key (x and y, hex)."""

    version: int
    least: int
    keys: Mapping[str, bytes]
    authority: str


def write_bundle(
    image: Image,
    out: Path,
    version: int,
    not_after: float,
    key: Ed25519PrivateKey,
    authority: ec.EllipticCurvePrivateKey,
) -> Bundle:
    """Make an update of a built image in the new directory `out`, which is gone when that fails; raises HostError, OSError."""
    check_version(version)
    sources = {BOOT: image.disk, ROOT: image.disk.with_suffix(".root")}
    if image.name != GATEWAY and not sources[ROOT].is_file():
        raise HostError(
            "wrong-image",
            f"checked the image: expected the gateway's, which has a root of its own, got {image.name!r}; nothing was "
            f"written: quotegate image bundle {GATEWAY}; a guest is updated by starting it from another image",
        )
    files = {name: measure(source) for name, source in sources.items()}
    uki = read_program(image.disk)
    references = ReferenceSet(version, not_after, _values(uki)).sign(key)
    manifest = Manifest(version, not_after, image.name, files, approve(uki, version, authority), references)
    out.mkdir(parents=True)
    try:
        for name, source in sources.items():
            shutil.copyfile(source, out / name)
            compare(out / name, files[name], measure(out / name))
        (out / MANIFEST).write_bytes(manifest.sign(key))
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)  # what was copied may be what the disk is full of
        raise
    return Bundle(out, manifest)


def open_bundle(directory: Path, keys: Mapping[str, bytes], now: float) -> Bundle:
    """Read an update's manifest; raises HostError."""
    path = directory / MANIFEST
    try:
        with open_regular(path) as file:
            untrusted = file.read(MAX_MANIFEST + 1)
    except OSError as error:
        raise HostError(
            "no-update", f"{path}: {error.strerror}; name the directory that `quotegate image bundle` wrote"
        ) from error
    return Bundle(directory, read_manifest(untrusted, keys, now))


def check_bundle(bundle: Bundle, now: InForce, clock: float) -> None:
    """Check that an update fits what is in force, that its files are whole, and what they will measure; raises HostError."""
    manifest = bundle.manifest
    _check_kind(manifest)
    _check_version(manifest, now)
    for name, facts in manifest.files.items():
        compare(bundle.directory / name, facts, measure(bundle.directory / name, facts.size))
    uki = read_program(bundle.directory / BOOT)
    check_approval(manifest.approval, uki, now.authority)
    _check_references(manifest, _values(uki), now, clock)


def _check_kind(manifest: Manifest) -> None:
    if manifest.image != GATEWAY:
        raise HostError(
            "wrong-image",
            f"checked the update's image: expected {GATEWAY}, got {manifest.image!r}; nothing was changed: a guest is "
            "updated by starting it from another image",
        )


def _check_version(manifest: Manifest, now: InForce) -> None:
    if manifest.version < now.least:
        raise HostError(
            "version-too-low",
            f"checked the update's version: expected {now.least} or more, from which on the TPM opens the state, got "
            f"{manifest.version}; nothing was changed: apply a newer one",
        )
    if not now.version < manifest.version <= now.version + MAX_STEP:
        raise HostError(
            "not-newer",
            f"checked the update's version: expected {now.version + 1} to {now.version + MAX_STEP}, as version "
            f"{now.version} is in force, got {manifest.version}; nothing was changed: to go back, quotegate update rollback",
        )


def _check_references(manifest: Manifest, values: dict[str, Events], now: InForce, clock: float) -> None:
    try:
        document = verify_document(manifest.references, REFERENCES, now.keys, clock)
        found = ReferenceSet.from_document(document)
        if found.version != manifest.version:
            raise DocumentError("wrong-version", f"expected version {manifest.version}, got {found.version}")
        if dict(found.values) != values:
            raise DocumentError("wrong-values", "they are not what the image in the update measures")
    except DocumentError as error:
        raise HostError(
            "references-refused",
            f"the reference values in the update: {error.message}; no peer would trust this gateway: have it signed anew",
            cause=error.code,
        ) from error


def measure(path: Path, expected: int | None = None) -> FileFacts:
    """Hash a file, unless it has not as many bytes as are expected; raises HostError `file-missing`."""
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if expected not in (None, size):
                return FileFacts(size, "not looked at: its size is another")
            digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
            return FileFacts(file.tell(), digest)
    except OSError as error:
        raise HostError(
            "file-missing",
            f"{path}: {error.strerror}; nothing was changed: build the image, or fetch the update, again",
        ) from error


def compare(path: Path, expected: FileFacts, got: FileFacts) -> None:
    """Compare a file with the manifest; raises HostError `file-altered`."""
    if got != expected:
        raise HostError(
            "file-altered",
            f"{path}: checked against the signed manifest: expected {expected.size} bytes with SHA-256 {expected.sha256}, "
            f"got {got.size} with {got.sha256}; nothing of it is used: fetch the update again",
        )


def _values(uki: bytes) -> dict[str, Events]:
    """Predict what peers will see of the image. Its root is verified: no list of programs is needed."""
    return {value_name(GATEWAY, pcr): events for pcr, events in predict(uki).items()}
