"""Read a TPM key's public area from its own bytes: name, attributes, point (TPM 2.0 Part 2, TPMT_PUBLIC)."""

import hashlib
import struct
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric import ec

from authn.cursor import Cursor
from authn.errors import AttestationError
from authn.failure import AttestationFailure

TPM_ALG_ECC, TPM_ALG_NULL, TPM_ALG_SHA256, TPM_ALG_ECDSA = 0x0023, 0x0010, 0x000B, 0x0018
TPM_ECC_NIST_P256 = 0x0003
TPM_RH_ENDORSEMENT = 0x4000000B

FIXED_TPM, FIXED_PARENT, SENSITIVE_DATA_ORIGIN = 1 << 1, 1 << 4, 1 << 5
RESTRICTED, DECRYPT, SIGN = 1 << 16, 1 << 17, 1 << 18
AK_REQUIRED = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | SIGN
EK_REQUIRED = FIXED_TPM | FIXED_PARENT | SENSITIVE_DATA_ORIGIN | RESTRICTED | DECRYPT

Failure = AttestationFailure


def _refusal(message: str, got: object) -> AttestationError:
    return AttestationError(Failure.WRONG_KEY_ATTRIBUTES, message, got=got)


@dataclass(frozen=True, slots=True)
class EccPublic:
    """An ECC P-256 public area, parsed: what the checks need."""

    attributes: int
    symmetric: int
    scheme: int
    scheme_hash: int
    point: tuple[bytes, bytes]

    def key(self) -> ec.EllipticCurvePublicKey:
        """Return the public key; raises AttestationError when the point is not on the curve."""
        x, y = (int.from_bytes(coordinate, "big") for coordinate in self.point)
        try:
            return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        except ValueError:
            raise _refusal("the public point is not on P-256", "another point") from None


def parse_ecc(public: bytes) -> EccPublic:
    """Parse a TPMT_PUBLIC of an ECC P-256 key with SHA-256 name; raises `wrong-key-attributes`."""
    reader = Cursor(public, "big", lambda *_: _refusal("the public area is truncated", len(public)))
    kind, name_alg, attributes = reader.number(2), reader.number(2), reader.number(4)
    if kind != TPM_ALG_ECC or name_alg != TPM_ALG_SHA256:
        raise _refusal(
            "expected an ECC key with a SHA-256 name", f"type {kind:#x}, name algorithm {name_alg:#x}"
        )
    reader.sized(2)  # authPolicy: part of the name, decided by the key's owner
    symmetric = reader.number(2)
    if symmetric != TPM_ALG_NULL:
        reader.number(2), reader.number(2)  # key bits, mode
    scheme = reader.number(2)
    scheme_hash = TPM_ALG_NULL if scheme == TPM_ALG_NULL else reader.number(2)
    curve, kdf = reader.number(2), reader.number(2)
    if kdf != TPM_ALG_NULL:
        reader.number(2)
    if curve != TPM_ECC_NIST_P256:
        raise _refusal("expected curve NIST P-256", f"curve {curve:#x}")
    point = (reader.sized(2), reader.sized(2))
    if reader.at != len(public):
        raise _refusal("bytes follow the public area", reader.left)
    return EccPublic(attributes, symmetric, scheme, scheme_hash, point)


def key_name(public: bytes) -> bytes:
    """Compute the Name: nameAlg and SHA-256 of the public area (Part 1, "Names")."""
    return struct.pack(">H", TPM_ALG_SHA256) + hashlib.sha256(public).digest()


def qualified_name(parent: bytes, name: bytes) -> bytes:
    """Compute the qualified name of a key below `parent` (a qualified name or a hierarchy handle)."""
    return struct.pack(">H", TPM_ALG_SHA256) + hashlib.sha256(parent + name).digest()


def check_ek(public: bytes) -> EccPublic:
    """Check that a public area is an endorsement key's: restricted decryption, bound to its TPM."""
    parsed = parse_ecc(public)
    if parsed.attributes & (EK_REQUIRED | SIGN) != EK_REQUIRED:
        raise _refusal(
            "the endorsement key must be a restricted decryption key fixed to its TPM", hex(parsed.attributes)
        )
    return parsed


@dataclass(frozen=True, slots=True)
class AttestationKey:
    """An AK whose attributes were checked from the same bytes its Name is computed from."""

    public: bytes
    name: bytes
    qualified_name: bytes
    key: ec.EllipticCurvePublicKey = field(repr=False, compare=False)

    @classmethod
    def from_public(cls, ak_public: bytes, ek_public: bytes) -> "AttestationKey":
        """Check an AK that is a child of this EK; raises AttestationError `wrong-key-attributes`.

        Guarantees: restricted signing key made inside the TPM, ECDSA P-256 with SHA-256 only. Does not
        prove that the key is in the TPM of that EK: activation of a credential does (authn.enrollment).
        """
        parsed = parse_ecc(ak_public)
        if parsed.attributes & (AK_REQUIRED | DECRYPT) != AK_REQUIRED:
            raise _refusal(
                "the attestation key must be a restricted signing key, made in and fixed to its TPM",
                hex(parsed.attributes),
            )
        if (parsed.scheme, parsed.scheme_hash) != (TPM_ALG_ECDSA, TPM_ALG_SHA256):
            raise _refusal(
                "the attestation key must sign with ECDSA and SHA-256", f"scheme {parsed.scheme:#x}"
            )
        endorsement = struct.pack(">I", TPM_RH_ENDORSEMENT)
        name = key_name(ak_public)
        parent = qualified_name(endorsement, key_name(ek_public))
        return cls(ak_public, name, qualified_name(parent, name), parsed.key())
