"""The state's key under its policy, on a real software TPM."""

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from authn.errors import TpmError
from authn.sealing import SealedKey, Sealing
from authn.state_policy import IMAGE_PCRS, Approval, approved_policy, signed_digest
from authn.tpm import Tpm
from tests.tpms import running_swtpm

AUTHORITY = ec.derive_private_key(7, ec.SECP256R1())
IMAGE, NEWER = hashlib.sha256(b"image").digest(), hashlib.sha256(b"newer image").digest()

EXTENDED = {index: hashlib.sha256(b"PCR %d" % index).digest() for index in (2, 3, 4, 9)}


def approval(booted: bytes, version: int, key: ec.EllipticCurvePrivateKey = AUTHORITY) -> Approval:
    """Approve an image that extends PCR 11 with this digest once, and others as EXTENDED says."""
    pcrs = {index: bytes(32) for index in IMAGE_PCRS}
    for index, digest in (*EXTENDED.items(), (11, booted)):
        pcrs[index] = hashlib.sha256(pcrs[index] + digest).digest()
    policy = approved_policy(pcrs, version)
    r, s = decode_dss_signature(key.sign(signed_digest(policy), ec.ECDSA(Prehashed(hashes.SHA256()))))
    numbers = key.public_key().public_numbers()
    public, signature = (
        b"".join(one.to_bytes(32, "big") for one in pair).hex() for pair in ((numbers.x, numbers.y), (r, s))
    )
    return Approval(version, policy.hex(), public, signature)


class Machine:
    """A gateway's TPM over its boots."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def boot(self, image: bytes) -> Iterator[Sealing]:
        """Power the TPM on and measure an image."""
        with running_swtpm(self._directory) as tcti, Tpm(tcti) as tpm:
            for index, digest in (*EXTENDED.items(), (11, image)):
                tpm.extend(index, digest)
            yield Sealing(tpm)

    def first(self) -> tuple[bytes, SealedKey]:
        """Make the key under version 1 of the image."""
        for sealing in self.boot(IMAGE):
            return sealing.make_key(approval(IMAGE, 1))
        raise AssertionError

    def unseal(self, image: bytes, word: Approval, sealed: SealedKey, *, then: int = 0) -> bytes:
        """Boot an image and ask for the key."""
        for sealing in self.boot(image):
            key = sealing.unseal(sealed, word)
            sealing.raise_least_version(then)
            return key
        raise AssertionError


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path / "tpm")


def test_gives_the_key_back_after_a_reboot(machine: Machine) -> None:
    key, sealed = machine.first()
    assert machine.unseal(IMAGE, approval(IMAGE, 1), sealed) == key


def test_a_tpm_that_signed_the_audit_record_has_state_somewhere(machine: Machine) -> None:
    machine.first()  # as far as an interrupted first start comes
    for sealing in machine.boot(IMAGE):
        assert not sealing.has_signed()
        sealing._tpm.increment_counter()
    for sealing in machine.boot(IMAGE):
        assert sealing.has_signed()


def test_an_update_keeps_the_state_readable(machine: Machine) -> None:
    key, sealed = machine.first()
    assert machine.unseal(NEWER, approval(NEWER, 2), sealed) == key
    assert (
        machine.unseal(IMAGE, approval(IMAGE, 1), sealed) == key
    )  # it may fall back until the newer is blessed


def test_rejects_version_below_the_least(machine: Machine) -> None:
    _, sealed = machine.first()
    machine.unseal(NEWER, approval(NEWER, 2), sealed, then=2)
    with pytest.raises(TpmError) as raised:
        machine.unseal(IMAGE, approval(IMAGE, 1), sealed)
    assert raised.value.code == "version-too-low"


def test_rejects_old_image_that_claims_a_new_version(machine: Machine) -> None:
    _, sealed = machine.first()
    machine.unseal(NEWER, approval(NEWER, 2), sealed, then=2)
    with pytest.raises(TpmError) as raised:
        machine.unseal(IMAGE, approval(NEWER, 2), sealed)
    assert raised.value.code == "not-approved"


def test_the_tpm_itself_rejects_an_old_version(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also when our own look at the counter is left out."""
    _, sealed = machine.first()
    machine.unseal(NEWER, approval(NEWER, 2), sealed, then=2)
    monkeypatch.setattr(Tpm, "read_counter", lambda *_: 1)
    with pytest.raises(TpmError) as raised:
        machine.unseal(IMAGE, approval(IMAGE, 1), sealed)
    assert "policy nv" in raised.value.message


def test_rejects_altered_image(machine: Machine) -> None:
    _, sealed = machine.first()
    with pytest.raises(TpmError) as raised:
        machine.unseal(NEWER, approval(IMAGE, 1), sealed)
    assert raised.value.code == "not-approved"


@pytest.mark.parametrize("index", IMAGE_PCRS)
def test_rejects_the_approved_image_when_it_was_started_otherwise(machine: Machine, index: int) -> None:
    """As a boot program that pretends to be the image, or the firmware's shell with another command line, does."""
    _, sealed = machine.first()
    for sealing in machine.boot(IMAGE):
        sealing._tpm.extend(index, hashlib.sha256(b"something else").digest())
        with pytest.raises(TpmError) as raised:
            sealing.unseal(sealed, approval(IMAGE, 1))
        assert raised.value.code == "not-approved"
        assert f"PCR {index} " in raised.value.message


def test_rejects_another_authority(machine: Machine) -> None:
    _, sealed = machine.first()
    other = ec.derive_private_key(8, ec.SECP256R1())
    with pytest.raises(TpmError) as raised:
        machine.unseal(IMAGE, approval(IMAGE, 1, other), sealed)
    assert "unseal" in raised.value.message


def test_rejects_forged_signature(machine: Machine) -> None:
    _, sealed = machine.first()
    word = approval(IMAGE, 1)
    with pytest.raises(TpmError) as raised:
        machine.unseal(IMAGE, replace(word, signature=word.signature[::-1]), sealed)
    assert "verify the approval" in raised.value.message


def test_rejects_changed_deployment(machine: Machine) -> None:
    _, sealed = machine.first()
    for sealing in machine.boot(IMAGE):
        sealing._tpm.extend(7, hashlib.sha256(b"another key database").digest())
        with pytest.raises(TpmError) as raised:
            sealing.unseal(sealed, approval(IMAGE, 1))
        assert "unseal" in raised.value.message


def test_rejects_another_tpm(machine: Machine, tmp_path: Path) -> None:
    _, sealed = machine.first()
    other = Machine(tmp_path / "other")
    other.first()
    with pytest.raises(TpmError) as raised:
        other.unseal(IMAGE, approval(IMAGE, 1), sealed)
    assert "load the sealed key" in raised.value.message


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"version": true, "policy": "", "public": "", "signature": ""}', "[" * 99_999]
)
def test_rejects_what_is_no_approval(text: str) -> None:
    with pytest.raises(TpmError) as raised:
        Approval.from_json(text)
    assert raised.value.code == "bad-approval"


def test_an_approval_survives_its_file() -> None:
    word = approval(IMAGE, 3)
    assert Approval.from_json(word.to_json()) == word
