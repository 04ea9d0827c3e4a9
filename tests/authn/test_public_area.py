"""Keys are judged by the very bytes their Name is computed from."""

import struct

import pytest

from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.public_area import AttestationKey, check_ek, key_name, qualified_name
from authn.tpm import Tpm, TpmIdentity
from tests.authn.rogue import UNRESTRICTED, RogueTpm

pytestmark = pytest.mark.tpm


def _refused() -> "pytest.RaisesExc[AttestationError]":
    wrong = AttestationFailure.WRONG_KEY_ATTRIBUTES
    return pytest.raises(AttestationError, check=lambda error: error.failure is wrong)


def test_names_are_those_of_the_tpm(tpm: Tpm, identity: TpmIdentity) -> None:
    key = AttestationKey.from_public(identity.ak_public, identity.ek_public)
    name, qualified = tpm._esys.read_public(RogueTpm(tpm).ak())[1:3]
    assert (key.name, key.qualified_name) == (bytes(name), bytes(qualified))
    assert qualified_name(b"\x40\0\0\x0b", key_name(identity.ek_public)) != key_name(identity.ek_public)


AK_BITS = [1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 18]


def test_rejects_an_ak_that_is_no_restricted_signing_key(tpm: Tpm, identity: TpmIdentity) -> None:
    """Each attribute taken away; a real unrestricted key."""
    attributes = struct.unpack_from(">I", identity.ak_public, 4)[0]
    handle, unrestricted = RogueTpm(tpm).primary("ecc256:ecdsa-sha256:null", UNRESTRICTED)
    RogueTpm(tpm).forget(handle)
    lacking = [
        identity.ak_public[:4] + struct.pack(">I", attributes & ~bit) + identity.ak_public[8:]
        for bit in AK_BITS
    ]
    for public in (unrestricted, *lacking):
        with _refused():
            AttestationKey.from_public(public, identity.ek_public)


@pytest.mark.parametrize("algorithm", ["rsa2048:rsassa-sha256:null", "ecc384:ecdsa-sha256:null"])
def test_rejects_a_real_key_of_another_kind(tpm: Tpm, identity: TpmIdentity, algorithm: str) -> None:
    handle, public = RogueTpm(tpm).primary(algorithm)
    RogueTpm(tpm).forget(handle)
    with _refused():
        AttestationKey.from_public(public, identity.ek_public)


def test_rejects_another_signature_scheme(tpm: Tpm, identity: TpmIdentity) -> None:
    rogue = RogueTpm(tpm)
    handle, public = rogue.primary("ecc256:ecdsa-sha384:null")
    rogue.forget(handle)
    with _refused():
        AttestationKey.from_public(public, identity.ek_public)


@pytest.mark.parametrize("bit", [1 << 1, 1 << 4, 1 << 5, 1 << 16, 1 << 17])
def test_rejects_an_ek_that_is_no_restricted_decryption_key(identity: TpmIdentity, bit: int) -> None:
    attributes = struct.unpack_from(">I", identity.ek_public, 4)[0]
    with _refused():
        check_ek(identity.ek_public[:4] + struct.pack(">I", attributes & ~bit) + identity.ek_public[8:])


def test_rejects_a_truncated_or_longer_public_area(identity: TpmIdentity) -> None:
    for length in range(len(identity.ak_public)):
        with _refused():
            AttestationKey.from_public(identity.ak_public[:length], identity.ek_public)
    with _refused():
        AttestationKey.from_public(identity.ak_public + b"\0", identity.ek_public)


def test_rejects_a_point_off_the_curve(identity: TpmIdentity) -> None:
    with _refused():
        AttestationKey.from_public(
            identity.ak_public[:-1] + bytes([identity.ak_public[-1] ^ 1]), identity.ek_public
        )
