"""The firmware that starts is the golden one, or nothing starts."""

import hashlib
import json
import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.signing import key_id, sign_document
from vmhost.errors import HostError
from vmhost.vm import golden
from vmhost.vm.golden import COPY, DOCUMENT, KIND, check_firmware, sign_golden

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
KEYS = {key_id(PUBLIC): PUBLIC}
GOOD, BAD = b"firmware" * 1000, b"firmwarX" * 1000
NOW, LATER = 1000.0, 2000.0


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    path = tmp_path / "installed" / "OVMF_CODE.fd"
    path.parent.mkdir()
    path.write_bytes(GOOD)
    assert sign_golden(path, tmp_path / "golden", 7, LATER, KEY) == digest(GOOD)
    return path


@pytest.fixture
def directory(installed: Path) -> Path:
    return installed.parents[1] / "golden"


def test_a_match_is_taken_as_it_is(installed: Path, directory: Path) -> None:
    before = installed.stat()
    outcome = check_firmware(installed, directory, KEYS, NOW)
    assert (outcome.digest, outcome.restored, outcome.found) == (digest(GOOD), False, digest(GOOD))
    assert outcome.described == ""
    assert outcome.version == 7
    assert installed.stat().st_ino == before.st_ino


@pytest.mark.parametrize(
    "content", [BAD, b"", GOOD[:-1], GOOD + b"\0"], ids=["bit", "empty", "short", "long"]
)
def test_a_mismatch_is_restored(installed: Path, directory: Path, content: bytes) -> None:
    installed.write_bytes(content)
    outcome = check_firmware(installed, directory, KEYS, NOW)
    assert (outcome.digest, outcome.restored, outcome.found) == (digest(GOOD), True, digest(content))
    assert installed.read_bytes() == GOOD
    assert [one.name for one in installed.parent.iterdir()] == [installed.name]
    assert not check_firmware(installed, directory, KEYS, NOW).restored


def test_what_is_gone_is_restored(installed: Path, directory: Path) -> None:
    installed.unlink()
    outcome = check_firmware(installed, directory, KEYS, NOW)
    assert outcome.restored
    assert outcome.found is None
    assert installed.read_bytes() == GOOD


def test_restoring_replaces_the_file_and_does_not_write_into_it(installed: Path, directory: Path) -> None:
    installed.write_bytes(BAD)
    with installed.open("rb") as held:  # somebody who runs on the old one keeps it
        check_firmware(installed, directory, KEYS, NOW)
        assert held.read() == BAD


def refused(installed: Path, directory: Path, code: str, keys: dict[str, bytes] | None = None) -> HostError:
    installed.write_bytes(BAD)
    with pytest.raises(HostError, match=r"nothing was started: .*") as error:
        check_firmware(installed, directory, KEYS if keys is None else keys, NOW)
    assert error.value.code == code
    assert installed.read_bytes() == BAD
    return error.value


def test_an_altered_golden_copy_is_no_golden_copy(installed: Path, directory: Path) -> None:
    (directory / COPY).write_bytes(BAD)
    error = refused(installed, directory, "golden-altered")
    assert digest(GOOD) in error.message
    assert digest(BAD) in error.message


@pytest.mark.parametrize("name", [COPY, DOCUMENT])
def test_without_a_golden_copy_nothing_starts(installed: Path, directory: Path, name: str) -> None:
    (directory / name).unlink()
    refused(installed, directory, "golden-missing")


def test_a_matching_firmware_does_not_start_without_its_golden_copy(installed: Path, directory: Path) -> None:
    (directory / COPY).write_bytes(BAD)
    with pytest.raises(HostError):
        check_firmware(installed, directory, KEYS, NOW)


def test_a_bad_signature(installed: Path, directory: Path) -> None:
    document = json.loads((directory / DOCUMENT).read_bytes())
    document["document"]["payload"]["sha256"] = digest(BAD)
    (directory / DOCUMENT).write_text(json.dumps(document))
    (directory / COPY).write_bytes(BAD)
    assert refused(installed, directory, "golden-refused").params["cause"] == "bad-signature"


def test_somebody_elses_signature(installed: Path, directory: Path) -> None:
    assert refused(installed, directory, "golden-refused", {}).params["cause"] == "wrong-key"


def test_an_expired_document(installed: Path, directory: Path) -> None:
    sign_golden(directory / COPY, directory, 8, NOW - 1, KEY)
    assert refused(installed, directory, "golden-refused").params["cause"] == "expired"


def test_a_document_of_another_kind(installed: Path, directory: Path) -> None:
    (directory / DOCUMENT).write_bytes(sign_document("port-map", 1, LATER, {"sha256": digest(GOOD)}, KEY))
    assert refused(installed, directory, "golden-refused").params["cause"] == "wrong-kind"


@pytest.mark.parametrize("payload", [{}, {"sha256": None}, {"sha256": digest(GOOD).upper()}], ids=str)
def test_a_document_without_a_digest(installed: Path, directory: Path, payload: dict[str, object]) -> None:
    (directory / DOCUMENT).write_bytes(sign_document(KIND, 1, LATER, payload, KEY))
    refused(installed, directory, "golden-altered")


def test_what_can_not_be_restored_does_not_start(
    installed: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(path: Path, content: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(golden, "write_durably", no_space)
    assert "No space left" in refused(installed, directory, "firmware-not-restored").message


def test_it_is_measured_again_after_it_was_restored(
    installed: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(golden, "write_durably", lambda path, content: None)  # a disk that loses writes
    refused(installed, directory, "firmware-not-restored")


def test_a_failed_write_leaves_no_temporary_file(
    installed: Path, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    refused(installed, directory, "firmware-not-restored")
    assert [one.name for one in installed.parent.iterdir()] == [installed.name]


@pytest.mark.parametrize("version", [-1, 1 << 63])
def test_rejects_a_version_that_no_start_would_take(installed: Path, directory: Path, version: int) -> None:
    before = {one: one.read_bytes() for one in directory.iterdir()}
    with pytest.raises(HostError, match="nothing was signed") as refused:
        sign_golden(installed, directory, version, LATER, KEY)
    assert refused.value.code == "bad-version"
    assert {one: one.read_bytes() for one in directory.iterdir()} == before


def test_rejects_a_lab_that_is_not_there_and_makes_none(installed: Path, tmp_path: Path) -> None:
    with pytest.raises(HostError, match="nothing was signed: name the lab") as refused:
        sign_golden(installed, tmp_path / "nosuch" / "golden", 1, LATER, KEY)
    assert refused.value.code == "no-state"
    assert not (tmp_path / "nosuch").exists()
