"""Select PCRs and digest their values as a TPM does (TPM 2.0 Part 2, TPML_PCR_SELECTION)."""

import hashlib
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

PCR_COUNT = 24
BITMAP_SIZE = 3


class HashAlg(IntEnum):
    """Hash algorithms by their TPM number (TCG Algorithm Registry)."""

    SHA1 = 0x0004
    SHA256 = 0x000B
    SHA384 = 0x000C

    @property
    def size(self) -> int:
        """Digest size in bytes."""
        return {self.SHA1: 20, self.SHA256: 32, self.SHA384: 48}[self]

    def digest(self, data: bytes) -> bytes:
        """Hash `data`."""
        return hashlib.new(self.name.lower(), data).digest()


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """PCRs of exactly one bank, in ascending order."""

    bank: HashAlg
    indices: tuple[int, ...]

    @classmethod
    def of(cls, indices: Iterable[int], bank: HashAlg = HashAlg.SHA256) -> "PcrSelection":
        """Build a selection; raises ValueError for none, or for one outside 0 to 23."""
        ordered = tuple(sorted(set(indices)))
        if not ordered or not 0 <= ordered[0] <= ordered[-1] < PCR_COUNT:
            raise ValueError(f"a PCR selection needs indices from 0 to {PCR_COUNT - 1}, got {ordered}")
        return cls(bank, ordered)

    def encode(self) -> bytes:
        """Return the TPML_PCR_SELECTION a TPM signs for this selection."""
        bitmap = sum(1 << index for index in self.indices).to_bytes(BITMAP_SIZE, "little")
        return struct.pack(">IHB", 1, self.bank, BITMAP_SIZE) + bitmap

    def __str__(self) -> str:
        return f"{self.bank.name.lower()}:{','.join(map(str, self.indices))}"


def pcr_digest(selection: PcrSelection, values: Mapping[int, bytes]) -> bytes:
    """Digest the values of the selected PCRs, lowest first, as TPM2_Quote does with SHA-256 keys."""
    return hashlib.sha256(b"".join(values[index] for index in selection.indices)).digest()


def extend(bank: HashAlg, value: bytes, digest: bytes) -> bytes:
    """Return the PCR's value after TPM2_PCR_Extend."""
    return bank.digest(value + digest)
