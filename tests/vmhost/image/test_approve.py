"""An image's approval is for what the image will measure."""

from dataclasses import replace

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from authn.pcr import HashAlg
from authn.reference import ReferenceSet
from authn.state_policy import approved_policy
from tests.vmhost.image.programs import small_uki
from vmhost.errors import HostError
from vmhost.image.approve import approve, check_approval, public_hex
from vmhost.image.predict import predict

AUTHORITY = ec.derive_private_key(7, ec.SECP256R1())


def test_approves_the_predicted_pcrs() -> None:
    uki, pcrs = small_uki(), {}
    for index in (2, 3, 4, 9, 11, 12):
        pcrs[index] = ReferenceSet(0, 0, {"one": predict(uki)[index]}).value("one", HashAlg.SHA256) or b""
        assert len(pcrs[index]) == 32
    assert approve(uki, 3, AUTHORITY).policy == approved_policy(pcrs, 3).hex()


def test_another_image_or_version_needs_another_approval() -> None:
    words = [
        approve(small_uki(), 1, AUTHORITY),
        approve(small_uki(), 2, AUTHORITY),
        approve(small_uki("debug"), 1, AUTHORITY),
        approve(small_uki(initrd=b"another"), 1, AUTHORITY),
    ]
    assert len({one.policy for one in words}) == len(words)


def test_names_the_authoritys_key() -> None:
    public = AUTHORITY.public_key().public_numbers()
    assert approve(small_uki(), 1, AUTHORITY).public == f"{public.x:064x}{public.y:064x}"


def test_rejects_a_signature_that_is_another_whatever_its_hex_looks_like() -> None:
    good = approve(small_uki(), 1, AUTHORITY)
    spaced = replace(good, signature=" ".join(good.signature[at : at + 2] for at in range(0, 128, 2)))
    check_approval(spaced, small_uki(), public_hex(AUTHORITY.public_key()))
    for bad in ("00" * 64, "ff" * 64, "0 " * 64, "x" * 128):
        with pytest.raises(HostError) as refused:
            check_approval(replace(good, signature=bad), small_uki(), public_hex(AUTHORITY.public_key()))
        assert refused.value.code == "not-approved"
