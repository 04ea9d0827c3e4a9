"""A TPM in software alone: a real P-256 key signing genuine TPMS_ATTEST bytes. For load, never for proofs."""

import hashlib
import struct
import time
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from authn.attest import TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE
from authn.evidence import Quote
from authn.pcr import PcrSelection, pcr_digest
from authn.public_area import AK_REQUIRED, EK_REQUIRED, AttestationKey

_ALGORITHM = ec.ECDSA(hashes.SHA256())


def _public(attributes: int, key: ec.EllipticCurvePrivateKey, *, signing: bool) -> bytes:
    """Write a TPMT_PUBLIC of a P-256 key."""
    numbers = key.public_key().public_numbers()
    symmetric = struct.pack(">H", 0x10) if signing else struct.pack(">HHH", 0x06, 128, 0x43)
    scheme = struct.pack(">HH", 0x18, 0x0B) if signing else struct.pack(">H", 0x10)
    point = b"".join(struct.pack(">H", 32) + number.to_bytes(32, "big") for number in (numbers.x, numbers.y))
    return (
        struct.pack(">HHIH", 0x23, 0x0B, attributes, 0)
        + symmetric
        + scheme
        + struct.pack(">HH", 3, 0x10)
        + point
    )


@dataclass
class SoftTpm:
    """One simulated TPM; its keys are drawn from a number, so that two processes can know the same one."""

    number: int

    def __post_init__(self) -> None:
        seed = int.from_bytes(hashlib.sha256(f"soft tpm {self.number}".encode()).digest(), "big") >> 1
        self.key = ec.derive_private_key(seed + 1, ec.SECP256R1())
        self.ek_public = _public(EK_REQUIRED, ec.derive_private_key(seed + 2, ec.SECP256R1()), signing=False)
        self.ak_public = _public(AK_REQUIRED, self.key, signing=True)
        self.identity = AttestationKey.from_public(self.ak_public, self.ek_public)

    def quote(self, selection: PcrSelection, qualifying_data: bytes, values: dict[int, bytes]) -> Quote:
        """Sign these PCR values as a TPM would."""
        sized = [
            struct.pack(">H", len(part)) + part for part in (self.identity.qualified_name, qualifying_data)
        ]
        clock = struct.pack(">QIIBQ", int(time.monotonic() * 1000), 1, 0, 1, 1)
        digest = pcr_digest(selection, values)
        attest = struct.pack(">IH", TPM_GENERATED_VALUE, TPM_ST_ATTEST_QUOTE) + b"".join(sized) + clock
        attest += selection.encode() + struct.pack(">H", len(digest)) + digest
        r, s = decode_dss_signature(self.key.sign(attest, _ALGORITHM))
        signature = (
            struct.pack(">HHH", 0x18, 0x0B, 32)
            + r.to_bytes(32, "big")
            + struct.pack(">H", 32)
            + s.to_bytes(32, "big")
        )
        return Quote(attest, signature)
