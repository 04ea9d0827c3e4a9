"""Wrap a secret so that only the TPM that holds both an EK and an AK can open it.

This is TPM2_MakeCredential in software (TPM 2.0 Part 1, "Credential Protection"; annex C.6 for ECC).
"""

import hmac
import struct
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

try:  # CFB moved here when it was called legacy; TPM 2.0 prescribes it
    from cryptography.hazmat.decrepit.ciphers.modes import CFB
except ImportError:
    CFB = modes.CFB  # type: ignore[misc]

from authn.public_area import check_ek

AES_KEY_BITS = 128
HASH_BITS = 256


@dataclass(frozen=True, slots=True)
class Credential:
    """What TPM2_ActivateCredential takes: TPM2B contents without their outer sizes."""

    id_object: bytes
    encrypted_secret: bytes


def make_credential(ek_public: bytes, ak_name: bytes, secret: bytes) -> Credential:
    """Wrap `secret` (at most 32 bytes) for the TPM with this EK and AK; raises AttestationError for a bad EK."""
    peer = check_ek(ek_public).key()
    ephemeral = ec.generate_private_key(ec.SECP256R1())
    shared = ephemeral.exchange(ec.ECDH(), peer)
    own, other = ephemeral.public_key().public_numbers(), peer.public_numbers()
    seed = kdf_e(shared, b"IDENTITY", own.x.to_bytes(32, "big"), other.x.to_bytes(32, "big"))
    point = b"".join(_sized(number.to_bytes(32, "big")) for number in (own.x, own.y))
    return Credential(_protect(seed, ak_name, secret), point)


def _protect(seed: bytes, ak_name: bytes, secret: bytes) -> bytes:
    key = kdf_a(seed, b"STORAGE", ak_name, AES_KEY_BITS)
    encryptor = Cipher(algorithms.AES(key), CFB(bytes(16))).encryptor()
    identity = encryptor.update(_sized(secret)) + encryptor.finalize()
    mac_key = kdf_a(seed, b"INTEGRITY", b"", HASH_BITS)
    return _sized(hmac.digest(mac_key, identity + ak_name, "sha256")) + identity


def _sized(data: bytes) -> bytes:
    return struct.pack(">H", len(data)) + data


def kdf_a(key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """KDFa with HMAC-SHA256, for up to 256 bits (Part 1, 11.4.10.2)."""
    block = struct.pack(">I", 1) + label + b"\0" + context + struct.pack(">I", bits)
    return hmac.digest(key, block, "sha256")[: bits // 8]


def kdf_e(shared: bytes, label: bytes, party_u: bytes, party_v: bytes) -> bytes:
    """KDFe with SHA-256, 256 bits (Part 1, 11.4.10.3)."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(struct.pack(">I", 1) + shared + label + b"\0" + party_u + party_v)
    return digest.finalize()
