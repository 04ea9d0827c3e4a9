"""What of an update is refused before anything is changed, each for its own reason."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.reference import ReferenceEvent, ReferenceSet
from authn.signing import sign_document
from tests.vmhost.update.bundles import (
    AUTHORITY,
    IN_FORCE,
    KEY,
    KEYS,
    LATER,
    NOW,
    copy_of,
    put,
    small_image,
    small_update,
)
from vmhost.errors import HostError
from vmhost.image.approve import approve
from vmhost.image.esp import read_program
from vmhost.names import GATEWAY
from vmhost.update.bundle import MAX_STEP, Bundle, InForce, check_bundle, open_bundle, write_bundle
from vmhost.update.manifest import BOOT, KIND, MANIFEST, ROOT, FileFacts, Manifest, read_manifest

OTHER_KEY = Ed25519PrivateKey.from_private_bytes(b"o" * 32)
OTHER_AUTHORITY = ec.derive_private_key(8, ec.SECP256R1())


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_update(tmp_path_factory.mktemp("good"))


def refusal(directory: Path, now: InForce = IN_FORCE, clock: float = NOW) -> HostError:
    """Open and check an update that must be refused."""
    with pytest.raises(HostError) as raised:
        check_bundle(open_bundle(directory, KEYS, clock), now, clock)
    assert (
        "nothing" in raised.value.message
        or "signed anew" in raised.value.message
        or "authority" in raised.value.message
    )
    return raised.value


def signed_anew(
    directory: Path, change: Callable[[Manifest], Manifest], key: Ed25519PrivateKey = KEY
) -> None:
    """Change a manifest and sign it again, as its author might."""
    path = directory / MANIFEST
    put(path, change(read_manifest(path.read_bytes(), KEYS, NOW)).sign(key))


def test_a_good_update_is_taken(good: Bundle) -> None:
    opened = open_bundle(good.directory, KEYS, NOW)
    assert opened == good
    check_bundle(opened, IN_FORCE, NOW)


def test_rejects_wrong_key(good: Bundle, tmp_path: Path) -> None:
    directory = copy_of(good, tmp_path / "u")
    signed_anew(directory, lambda one: one, OTHER_KEY)
    error = refusal(directory)
    assert (error.code, error.params["cause"]) == ("update-refused", "wrong-key")


def test_rejects_expired_manifest(good: Bundle) -> None:
    error = refusal(good.directory, clock=LATER + 1)
    assert (error.code, error.params["cause"]) == ("update-refused", "expired")


def test_rejects_altered_manifest(good: Bundle, tmp_path: Path) -> None:
    directory = copy_of(good, tmp_path / "u")
    path = directory / MANIFEST
    put(path, path.read_bytes().replace(b'"version":2', b'"version":3', 1))
    assert refusal(directory).params["cause"] == "bad-signature"


@pytest.mark.parametrize("size", [0, 1, 100, -1])
def test_rejects_truncated_manifest(good: Bundle, tmp_path: Path, size: int) -> None:
    directory = copy_of(good, tmp_path / "u")
    path = directory / MANIFEST
    put(path, path.read_bytes()[:size])
    assert refusal(directory).params["cause"] == "malformed"


def test_rejects_document_of_another_kind(good: Bundle, tmp_path: Path) -> None:
    directory = copy_of(good, tmp_path / "u")
    put(directory / MANIFEST, good.manifest.references)
    assert refusal(directory).params["cause"] == "wrong-kind"


def _payload(good: Bundle) -> dict[str, Any]:
    payload: dict[str, Any] = json.loads((good.directory / MANIFEST).read_bytes())["document"]["payload"]
    return payload


@pytest.mark.parametrize(
    "change",
    [
        lambda one: one.pop("files"),
        lambda one: one.update(more=1),
        lambda one: one.update(files=[]),
        lambda one: one["files"].pop(ROOT),
        lambda one: one["files"].update({"../../etc/passwd": one["files"][ROOT]}),
        lambda one: one["files"][BOOT].update(size="40"),
        lambda one: one["files"][BOOT].update(size=-1),
        lambda one: one["files"][BOOT].update(size=True),
        lambda one: one["files"][BOOT].update(sha256="ab"),
        lambda one: one.update(approval={}),
        lambda one: one.update(approval=None),
        lambda one: one["approval"].update(version=3),
    ],
)
def test_rejects_malformed_payload(
    good: Bundle, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    directory, payload = copy_of(good, tmp_path / "u"), _payload(good)
    change(payload)
    put(directory / MANIFEST, sign_document(KIND, 2, LATER, payload, KEY))
    assert refusal(directory).params["cause"] == "malformed"


@pytest.mark.parametrize("name", [BOOT, ROOT])
def test_rejects_altered_file(good: Bundle, tmp_path: Path, name: str) -> None:
    directory = copy_of(good, tmp_path / "u")
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    put(directory / name, content)
    error = refusal(directory)
    assert error.code == "file-altered"
    assert name in error.message


@pytest.mark.parametrize("name", [BOOT, ROOT])
def test_rejects_truncated_file(good: Bundle, tmp_path: Path, name: str) -> None:
    directory = copy_of(good, tmp_path / "u")
    put(directory / name, (directory / name).read_bytes()[:-1])
    assert refusal(directory).code == "file-altered"


@pytest.mark.parametrize("name", [MANIFEST, BOOT, ROOT])
@pytest.mark.parametrize("kind", ["fifo", "device", "endless"])
def test_rejects_what_is_no_file_without_waiting_for_it(
    good: Bundle, tmp_path: Path, name: str, kind: str
) -> None:
    directory = copy_of(good, tmp_path / "u")
    path = directory / name
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(1 << 41)
    with pytest.raises(HostError) as raised:
        check_bundle(open_bundle(directory, KEYS, NOW), IN_FORCE, NOW)
    assert name in raised.value.message or raised.value.code == "update-refused"


def test_rejects_missing_file(good: Bundle, tmp_path: Path) -> None:
    directory = copy_of(good, tmp_path / "u")
    (directory / ROOT).unlink()
    assert refusal(directory).code == "file-missing"


def test_rejects_directory_without_manifest(tmp_path: Path) -> None:
    with pytest.raises(HostError) as raised:
        open_bundle(tmp_path, KEYS, NOW)
    assert raised.value.code == "no-update"


def test_rejects_version_below_the_least(good: Bundle) -> None:
    assert refusal(good.directory, replace(IN_FORCE, version=1, least=3)).code == "version-too-low"


@pytest.mark.parametrize("version", [2, 3])
def test_rejects_version_that_is_not_newer(good: Bundle, version: int) -> None:
    assert refusal(good.directory, replace(IN_FORCE, version=version)).code == "not-newer"


def test_rejects_version_that_the_tpm_would_count_up_to_for_ever(tmp_path: Path) -> None:
    bundle = small_update(tmp_path, MAX_STEP + 2)
    assert refusal(bundle.directory).code == "not-newer"
    check_bundle(bundle, replace(IN_FORCE, version=2), NOW)


def test_rejects_wrong_kind_of_image(tmp_path: Path) -> None:
    bundle = small_update(tmp_path, image=small_image(tmp_path / "image", "guest"))
    error = refusal(bundle.directory)
    assert (error.code, "'guest'" in error.message) == ("wrong-image", True)


def test_rejects_approval_by_another_authority(tmp_path: Path) -> None:
    image = small_image(tmp_path / "image")
    bundle = write_bundle(image, tmp_path / "u", 2, LATER, KEY, OTHER_AUTHORITY)
    error = refusal(bundle.directory)
    assert error.code == "not-approved"
    assert "authority's key" in error.message


def test_rejects_approval_of_another_image(good: Bundle, tmp_path: Path) -> None:
    directory = copy_of(good, tmp_path / "u")
    other = small_image(tmp_path / "image", command_line="debug")
    word = approve(read_program(other.disk), 2, AUTHORITY)
    signed_anew(directory, lambda one: replace(one, approval=word))
    error = refusal(directory)
    assert error.code == "not-approved"
    assert "policy" in error.message


def test_rejects_forged_approval(good: Bundle, tmp_path: Path) -> None:
    directory = copy_of(good, tmp_path / "u")
    forged = replace(good.manifest.approval, signature=good.manifest.approval.signature[::-1])
    signed_anew(directory, lambda one: replace(one, approval=forged))
    error = refusal(directory)
    assert error.code == "not-approved"
    assert "signature" in error.message


def references(
    version: int, key: Ed25519PrivateKey, digest: bytes = bytes(32), not_after: float = LATER
) -> bytes:
    return ReferenceSet(version, not_after, {"gateway-pcr11": (ReferenceEvent("x", digest),)}).sign(key)


@pytest.mark.parametrize(
    ("document", "cause"),
    [
        (references(2, KEY), "wrong-values"),
        (references(2, OTHER_KEY), "wrong-key"),
        (references(3, KEY), "wrong-version"),
        (references(2, KEY, not_after=NOW - 1), "expired"),
        (b"{}", "malformed"),
    ],
)
def test_rejects_reference_values_that_peers_would_not_take(
    good: Bundle, tmp_path: Path, document: bytes, cause: str
) -> None:
    directory = copy_of(good, tmp_path / "u")
    signed_anew(directory, lambda one: replace(one, references=document))
    error = refusal(directory)
    assert (error.code, error.params["cause"]) == ("references-refused", cause)


def test_rejects_manifest_that_is_too_large(good: Bundle, tmp_path: Path) -> None:
    directory = copy_of(good, tmp_path / "u")
    put(directory / MANIFEST, b"[" * (2 << 20))
    assert refusal(directory).params["cause"] == "malformed"


def test_an_image_without_root_makes_no_update_and_leaves_no_half_one(tmp_path: Path) -> None:
    image = small_image(tmp_path / "image")
    image.disk.with_suffix(".root").unlink()
    with pytest.raises(HostError) as raised:
        write_bundle(image, tmp_path / "u", 2, LATER, KEY, AUTHORITY)
    assert raised.value.code == "file-missing"
    assert not (tmp_path / "u").exists()


def test_a_manifest_survives_its_file(good: Bundle) -> None:
    manifest = Manifest(
        2,
        LATER,
        GATEWAY,
        {BOOT: FileFacts(1, "ab" * 32), ROOT: FileFacts(2, "cd" * 32)},
        good.manifest.approval,
        b"x",
    )
    assert read_manifest(manifest.sign(KEY), KEYS, NOW) == manifest


@pytest.mark.parametrize("version", [-1, 1 << 63])
def test_rejects_writing_a_version_that_nobody_takes(tmp_path: Path, version: int) -> None:
    with pytest.raises(HostError, match="nothing was signed") as refused:
        write_bundle(small_image(tmp_path / "image"), tmp_path / "u", version, LATER, KEY, AUTHORITY)
    assert (refused.value.code, (tmp_path / "u").exists()) == ("bad-version", False)


def test_an_update_that_does_not_fit_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, copy = small_image(tmp_path / "image"), shutil.copyfile

    def full(source: Path, target: Path) -> None:
        if target.name == ROOT:
            raise OSError(28, "No space left on device")
        copy(source, target)

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "copyfile", full)
        with pytest.raises(OSError, match="No space left"):
            write_bundle(image, tmp_path / "u", 2, LATER, KEY, AUTHORITY)
    assert not (tmp_path / "u").exists()
    assert write_bundle(image, tmp_path / "u", 2, LATER, KEY, AUTHORITY).version == 2


def test_rejects_bundling_a_guests_image_and_says_what_to_do(tmp_path: Path) -> None:
    image = small_image(tmp_path / "image", "guest")
    image.disk.with_suffix(".root").unlink()
    with pytest.raises(HostError, match="a guest is updated by starting it from another image") as refused:
        write_bundle(image, tmp_path / "u", 2, LATER, KEY, AUTHORITY)
    assert (refused.value.code, (tmp_path / "u").exists()) == ("wrong-image", False)
