"""Judge the gateway's evidence as docs/protocol.md says: quote, event log, reference values."""

import json
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from tests.foreign.wire import Foul, H, Quote, Reader, u8, u16, u32

EV_NO_ACTION = 3


def name(public: bytes) -> bytes:
    return u16(0x000B) + H(public)


def qualified_name(ak_public: bytes, ek_public: bytes) -> bytes:
    parent = u16(0x000B) + H(u32(0x4000000B) + name(ek_public))
    return u16(0x000B) + H(parent + name(ak_public))


def selection_of(indices: list[int]) -> bytes:
    bits = sum(1 << index for index in indices).to_bytes(3, "little")
    return u32(1) + u16(0x000B) + u8(3) + bits


def point(public: bytes) -> ec.EllipticCurvePublicKey:
    """The point in a TPMT_PUBLIC: ECC, SHA-256 name, no symmetric part, ECDSA with SHA-256, P-256, no KDF."""
    reader = Reader(public)
    demand(reader.take(4) == u16(0x0023) + u16(0x000B), "wrong-key-attributes")
    reader.take(4), reader.take(reader.number(2))
    wanted = u16(0x0010) + u16(0x0018) + u16(0x000B) + u16(0x0003) + u16(0x0010)
    demand(reader.take(10) == wanted, "wrong-key-attributes")
    x, y = (int.from_bytes(reader.take(reader.number(2)), "big") for _ in range(2))
    reader.end()
    return ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()


@dataclass
class Verified:
    """What a quote proved."""

    clock: int
    resets: int
    restarts: int


@dataclass
class GatewayKey:
    """The gateway's key as provisioning gave it."""

    ak_public: bytes
    ek_public: bytes
    indices: list[int]

    def verify(
        self, quote: Quote, data: bytes, values: dict[int, bytes], previous: Verified | None, same_boot: bool
    ) -> Verified:
        """The list under "Quote verification", in its order."""
        attest, signature = quote
        self._check_signature(attest, signature)
        reader = Reader(attest)
        demand(reader.take(4) == b"\xffTCG", "wrong-magic")
        demand(reader.number(2) == 0x8018, "wrong-type")
        signer, extra = reader.take(reader.number(2)), reader.take(reader.number(2))
        got = Verified(reader.number(8), reader.number(4), reader.number(4))
        reader.take(1 + 8)
        wanted = selection_of(self.indices)
        selection, digest = reader.take(len(wanted)), reader.take(reader.number(2))
        demand(reader.at == len(attest), "trailing-bytes")
        demand(selection == wanted, "relabelled-pcr")
        demand(extra == data, "replayed-nonce")
        demand(signer == qualified_name(self.ak_public, self.ek_public), "wrong-qualified-signer")
        demand(digest == H(b"".join(values[index] for index in self.indices)), "pcr-mismatch")
        if previous and same_boot:
            demand((got.resets, got.restarts) == (previous.resets, previous.restarts), "reset-during-session")
        if previous:
            demand(got.resets >= previous.resets, "reset-count-regression")
            demand(got.resets > previous.resets or got.clock >= previous.clock, "clock-regression")
        return got

    def _check_signature(self, attest: bytes, signature: bytes) -> None:
        reader = Reader(signature)
        demand(reader.number(2) == 0x0018 and reader.number(2) == 0x000B, "wrong-signature-algorithm")
        r, s = (int.from_bytes(reader.take(reader.number(2)), "big") for _ in range(2))
        reader.end()
        try:
            point(self.ak_public).verify(utils.encode_dss_signature(r, s), attest, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature:
            raise Foul("wrong-ak") from None


def demand(good: bool, code: str) -> None:
    if not good:
        raise Foul(code)


def events(log: bytes) -> Iterator[tuple[int, bytes]]:
    """(PCR, SHA-256 digest) of what a TCG crypto-agile log says was extended."""
    (header,) = struct.unpack_from("<I", log, 28)
    at = 32 + header
    while at < len(log):
        pcr, kind, count = struct.unpack_from("<III", log, at)
        at += 12
        digest = b""
        for _ in range(count):
            (algorithm,) = struct.unpack_from("<H", log, at)
            size = {0x0004: 20, 0x000B: 32, 0x000C: 48}[algorithm]
            digest = log[at + 2 : at + 2 + size] if algorithm == 0x000B else digest
            at += 2 + size
        (size,) = struct.unpack_from("<I", log, at)
        at += 4 + size
        if kind != EV_NO_ACTION:
            yield pcr, digest


def replay(log: bytes, indices: list[int]) -> dict[int, bytes]:
    """The PCR values that a log leads to, from zero."""
    values = {index: bytes(32) for index in indices}
    for pcr, digest in events(log):
        if pcr in values:
            values[pcr] = H(values[pcr] + digest)
    return values


def load_references(files: list[str], keys: dict[str, str]) -> dict[str, Any]:
    """The newest signed reference set."""
    found = [read_references(Path(file).read_bytes(), keys) for file in files]
    return max(found, key=lambda one: int(one["version"]))


def read_references(data: bytes, keys: dict[str, str]) -> dict[str, Any]:
    """One signed reference set: version and payload."""
    outer = json.loads(data)
    document: dict[str, Any] = outer["document"]
    signed = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    key = Ed25519PublicKey.from_public_bytes(bytes.fromhex(keys[outer["key"]]))
    key.verify(bytes.fromhex(outer["signature"]), b"quotegate/1 document\0" + signed)
    demand(document["kind"] == "reference-set" and document["not_after"] > time.time(), "reference-expired")
    return document


def check_reference(values: dict[int, bytes], named: dict[str, str], references: dict[str, Any]) -> None:
    """Each PCR must be what the events of its named reference value lead to."""
    for index, reference in named.items():
        value = bytes(32)
        for _, digest in references[reference]:
            value = H(value + bytes.fromhex(digest))
        demand(value == values[int(index)], "reference-mismatch")
