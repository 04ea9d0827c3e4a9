"""The policy under which a gateway's TPM gives out the key of its state, computed without a TPM. Pure.

What is sealed is bound to: an authority's public key (TPM2_PolicyAuthorize) and the PCR 7 of the day it was sealed.
The authority approves one image at a time: what its start leads to in IMAGE_PCRS, and a version that is not below
the TPM's own minimum (TPM2_PolicyNV on a counter, which the TPM lets nobody count down). So an update keeps the state
readable, and an image that was left behind does not get at it. PCR 11 alone would not do: whatever starts before the
image can extend it in the image's name, and a command line from elsewhere shows in PCR 9 and 12 only.

Source: TPM 2.0 Library, Part 3, 23.7 (PolicyPCR), 23.9 (PolicyNV), 23.16 (PolicyAuthorize); Part 1, 16 (Names).
"""

import hashlib
import json
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from authn.errors import TpmError
from authn.pcr import PcrSelection

VERSION_COUNTER = 0x01500201
# TPMA_NV: AUTHWRITE, a COUNTER, AUTHREAD, NO_DA, and WRITTEN once it was counted up
COUNTER_ATTRIBUTES = 1 << 2 | 1 << 4 | 1 << 18 | 1 << 25 | 1 << 29
IMAGE_PCRS, DEPLOYMENT_PCR = (2, 3, 4, 9, 11, 12), 7
_POLICY_PCR, _POLICY_NV, _POLICY_AUTHORIZE = 0x17F, 0x149, 0x16A
_SHA256, _LESS_OR_EQUAL = 0x0B, 0x0009  # TPM_EO_UNSIGNED_LE
_START = bytes(32)


@dataclass(frozen=True, slots=True)
class Approval:
    """The authority's word for one image. `public` is its P-256 key (x and y), `signature` ECDSA's r and s, all hex."""

    version: int
    policy: str
    public: str
    signature: str

    def to_json(self) -> str:
        """Write it as a file."""
        return json.dumps(asdict(self), indent=1) + "\n"

    @classmethod
    def from_json(cls, untrusted: str) -> "Approval":
        """Read it; raises TpmError `bad-approval`. The TPM checks the signature."""
        try:
            return cls.of(json.loads(untrusted))
        except (ValueError, RecursionError) as error:
            raise _bad_approval(error) from error

    @classmethod
    def of(cls, data: dict[str, Any]) -> "Approval":
        """Take the fields of the file; raises TpmError `bad-approval`."""
        try:
            if set(data) != {"version", "policy", "public", "signature"} or type(data["version"]) is not int:
                raise ValueError("expected exactly version (a number), policy, public, signature")
            sizes = {"policy": 32, "public": 64, "signature": 64}
            for name, size in sizes.items():
                if len(bytes.fromhex(data[name])) != size:
                    raise ValueError(f"{name}: expected {size} bytes in hex")
            return cls(**data)
        except (ValueError, TypeError) as error:
            raise _bad_approval(error) from error


def _bad_approval(error: Exception) -> TpmError:
    return TpmError(
        "bad-approval", f"the approval of this image can't be read: {error}; approve the image anew"
    )


def approved_policy(pcrs: Mapping[int, bytes], version: int) -> bytes:
    """Compute what the authority signs for an image with these IMAGE_PCRS (SHA-256) and version."""
    values = hashlib.sha256(b"".join(pcrs[index] for index in IMAGE_PCRS)).digest()
    digest = _extended(_START, _POLICY_PCR, PcrSelection.of(IMAGE_PCRS).encode() + values)
    arguments = hashlib.sha256(version_operand(version) + struct.pack(">HH", 0, _LESS_OR_EQUAL)).digest()
    return _extended(digest, _POLICY_NV, arguments + counter_name())


def seal_policy(authority_name: bytes, pcr7: bytes) -> bytes:
    """Compute the policy of the sealed key: the authority approves, and PCR 7 is as it was."""
    # PolicyAuthorize starts afresh: what was approved is not part of it
    digest = _extended(_START, _POLICY_AUTHORIZE, authority_name)
    digest = hashlib.sha256(digest + b"").digest()  # an empty policyRef
    return _extended(
        digest, _POLICY_PCR, PcrSelection.of([DEPLOYMENT_PCR]).encode() + hashlib.sha256(pcr7).digest()
    )


def signed_digest(policy: bytes) -> bytes:
    """Return what the authority's signature covers: the policy with an empty policyRef (Part 3, 23.16)."""
    return hashlib.sha256(policy).digest()


def counter_name() -> bytes:
    """Return the Name of the counter that holds the least version, once it was counted up."""
    area = struct.pack(">IHIHH", VERSION_COUNTER, _SHA256, COUNTER_ATTRIBUTES, 0, 8)
    return struct.pack(">H", _SHA256) + hashlib.sha256(area).digest()


def version_operand(version: int) -> bytes:
    """Write a version as the counter has it."""
    return struct.pack(">Q", version)


def _extended(digest: bytes, command: int, rest: bytes) -> bytes:
    return hashlib.sha256(digest + struct.pack(">I", command) + rest).digest()
