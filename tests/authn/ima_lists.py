"""Machines that measure files as the kernel's IMA does: real TPMs whose PCR 10 is extended, and the lists."""

import dataclasses
import hashlib
import struct

from authn.appraisal import appraise
from authn.event_log import build_event_log
from authn.ima import IMA_PCR, ImaEntry
from authn.layers import Layer
from authn.pcr import HashAlg
from authn.profile import Profile
from authn.public_area import AttestationKey
from authn.quote import ExpectedQuote
from authn.reference import ReferenceEvent, ReferenceSet, check_reference
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


PROFILE = Profile.of("vm", {10: "ima:files"})
NONCE = b"n" * 32
INIT, SHELL = entry("/sbin/init", b"init"), entry("/bin/sh", b"shell", template=b"ima-sig")
EVIL = entry("/tmp/evil", b"evil")
BOOT = entry("boot_aggregate", b"the boot PCRs")
SET = ReferenceSet(1, 1e12, {"files": tuple(ReferenceEvent(one.path, one.digest) for one in (INIT, SHELL))})


@dataclasses.dataclass
class Machine:
    tpm: Tpm
    key: AttestationKey

    def layer(self, *entries: ImaEntry, ahead: tuple[ImaEntry, ...] = ()) -> Layer:
        measured = measure(self.tpm, *entries)
        quote = self.tpm.quote(PROFILE.selection, NONCE)
        return Layer("tpm", quote, build_event_log([]), measured + b"".join(one.encode() for one in ahead))

    def judge(self, *layers: Layer, profile: Profile = PROFILE) -> None:
        expected = ExpectedQuote(self.key, profile.selection, NONCE, {})
        check_reference(profile, appraise(layers, profile, expected).measured, [SET], now=0.0)
