"""Measure files as the kernel's IMA does: extend PCR 10 of a real TPM and write the list."""

import hashlib
import struct

from authn.ima import IMA_PCR, ImaEntry
from authn.pcr import HashAlg
from authn.tpm import Tpm


def entry(path: str, content: bytes, *, violation: bool = False, template: bytes = b"ima-ng") -> ImaEntry:
    digest = hashlib.sha256(content).digest()
    hash_field, name = b"sha256:\0" + digest, path.encode() + b"\0"
    data = struct.pack("<I", len(hash_field)) + hash_field + struct.pack("<I", len(name)) + name
    if template == b"ima-sig":
        data += struct.pack("<I", 0)
    return ImaEntry(template, data, digest, path, violation)


def measure(tpm: Tpm, *entries: ImaEntry) -> bytes:
    for one in entries:
        tpm.extend(IMA_PCR, one.measured(HashAlg.SHA256))
    return b"".join(one.encode() for one in entries)
