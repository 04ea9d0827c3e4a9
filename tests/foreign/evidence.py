"""A verifier of evidence bundles written from docs/evidence.md and docs/protocol.md alone: no line of Quotegate's own.

`python evidence.py FILE ANCHORS` prints `verified` or the failed check, and exits 0 or 4.
"""

import datetime as dt
import hashlib
import json
import struct
import sys
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, utils


class Failed(Exception):
    """A check failed; its name."""


def need(condition: object, check: str) -> None:
    if not condition:
        raise Failed(check)


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def blob(data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + data


def name_of(public: bytes) -> bytes:
    return b"\0\x0b" + sha256(public)


def point_of(public: bytes) -> ec.EllipticCurvePublicKey:
    """Read the two coordinates at the end of a P-256 public area."""
    x, y = public[-66:-34], public[-32:]
    numbers = ec.EllipticCurvePublicNumbers(
        int.from_bytes(x, "big"), int.from_bytes(y, "big"), ec.SECP256R1()
    )
    return numbers.public_key()


def check_certificate(bundle: dict, anchors: dict) -> x509.Certificate:
    name = "ek-certificate"
    certificate = x509.load_der_x509_certificate(bytes.fromhex(bundle["ek_certificate"]))
    at = dt.datetime.fromtimestamp(bundle["taken_at"], dt.UTC)
    need(certificate.not_valid_before_utc <= at <= certificate.not_valid_after_utc, name)
    for pem in anchors["ek_roots"]:
        try:
            certificate.verify_directly_issued_by(x509.load_pem_x509_certificate(pem.encode()))
            break
        except (InvalidSignature, ValueError):
            continue
    else:
        raise Failed(name)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    need(x509.ObjectIdentifier("2.23.133.8.1") in usage, name)
    need(certificate.public_key() == point_of(bytes.fromhex(bundle["ek_public"])), name)
    return certificate


def check_key(bundle: dict) -> None:
    public = bytes.fromhex(bundle["ak_public"])
    kind, name_alg, attributes = struct.unpack_from(">HHI", public)
    wanted = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 16 | 1 << 18
    good = (kind, name_alg) == (0x23, 0x0B) and attributes & (wanted | 1 << 17) == wanted
    (policy,) = struct.unpack_from(">H", public, 8)
    good = good and struct.unpack_from(">HHH", public, 10 + policy) == (0x10, 0x18, 0x0B)
    need(good, "attestation-key")


def load_references(bundle: dict, anchors: dict) -> list[dict]:
    sets = []
    for signed in bundle["reference_sets"]:
        document = signed["document"]
        text = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
        need(signed["key"] in anchors["reference_keys"], "reference-sets")
        key = ed25519.Ed25519PublicKey.from_public_bytes(
            bytes.fromhex(anchors["reference_keys"][signed["key"]])
        )
        try:
            key.verify(bytes.fromhex(signed["signature"]), b"quotegate/1 document\0" + text)
        except InvalidSignature:
            raise Failed("reference-sets") from None
        need(
            document["kind"] == "reference-set" and bundle["taken_at"] <= document["not_after"],
            "reference-sets",
        )
        sets.append(document["payload"]["values"])
    return sets


def replay(log: bytes, indices: list[int]) -> dict[int, bytes]:
    """Replay a crypto-agile log that has SHA-256 among its banks (TCG PC Client Platform Firmware Profile, 10)."""
    values = {index: bytes(32) for index in indices}
    (length,) = struct.unpack_from("<I", log, 28)
    (algorithms,) = struct.unpack_from("<I", log, 32 + 24)
    sizes = dict(struct.unpack_from("<HH", log, 32 + 28 + 4 * number) for number in range(algorithms))
    at = 32 + length
    while at < len(log):
        pcr, kind, count = struct.unpack_from("<III", log, at)
        at += 12
        digests = {}
        for _ in range(count):
            (algorithm,) = struct.unpack_from("<H", log, at)
            digests[algorithm] = log[at + 2 : at + 2 + sizes[algorithm]]
            at += 2 + sizes[algorithm]
        (length,) = struct.unpack_from("<I", log, at)
        at += 4 + length
        if kind != 3 and pcr in values:
            values[pcr] = sha256(values[pcr], digests[0x0B])
    need(at == len(log), "quote-and-logs")
    return values


def check_quote(bundle: dict) -> dict[int, bytes]:
    name = "quote-and-logs"
    layer = next((one for one in bundle["layers"] if one["name"] == "tpm"), None)
    need(layer is not None and bundle["profile"]["layers"] == ["tpm"], name)
    attest, signature = bytes.fromhex(layer["attest"]), bytes.fromhex(layer["signature"])
    ak, ek = bytes.fromhex(bundle["ak_public"]), bytes.fromhex(bundle["ek_public"])
    need(
        len(signature) == 72 and signature[:6] == b"\0\x18\0\x0b\0\x20" and signature[38:40] == b"\0\x20",
        name,
    )
    der = utils.encode_dss_signature(
        int.from_bytes(signature[6:38], "big"), int.from_bytes(signature[40:], "big")
    )
    try:
        point_of(ak).verify(der, attest, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise Failed(name) from None
    qualified = b"\0\x0b" + sha256(b"\0\x0b" + sha256(b"\x40\0\0\x0b", name_of(ek)), name_of(ak))
    indices = sorted(map(int, bundle["profile"]["references"]))
    values = replay(bytes.fromhex(layer["event_log"]), indices)
    head = b"\xffTCG\x80\x18\0\x22" + qualified + b"\0\x20" + bytes.fromhex(bundle["qualifying_data"])
    tail = bytes.fromhex(bundle["selection"]) + b"\0\x20" + sha256(*(values[index] for index in indices))
    need(
        attest.startswith(head) and attest.endswith(tail) and len(attest) == len(head) + 25 + len(tail), name
    )
    clock, resets, _, _, firmware = struct.unpack_from(">QIIBQ", attest, len(head))
    before = bundle["previous"]
    if before is not None:
        need(
            resets > before["reset_count"] or (resets == before["reset_count"] and clock >= before["clock"]),
            name,
        )
        need(before.get("firmware_version") in (None, firmware), name)
    return values


def check_references(bundle: dict, sets: list[dict], values: dict[int, bytes]) -> None:
    def good(reference: dict) -> bool:
        for index, name in bundle["profile"]["references"].items():
            value = bytes(32)
            for _, digest in reference.get(name, [["", "ff"]]):
                value = sha256(value, bytes.fromhex(digest))
            if value != values[int(index)] or (int(index) < 8 and value == bytes(32)):
                return False
        return True

    need(any(map(good, sets)), "reference-values")


def verify(bundle: dict, anchors: dict) -> None:
    """Raise Failed with the name of the first check that does not hold."""
    bundle = {**bundle, "profile": anchors.get("profile", bundle["profile"])}
    subject = check_certificate(bundle, anchors).subject
    names = [one.value for one in subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)]
    need(names[:1] == [bundle["peer"].rpartition("/")[2]], "peer-name")
    check_key(bundle)
    label = sha256(blob(b"quotegate/1 peer"), blob(bytes.fromhex(bundle["transcript"])))
    need(bundle["qualifying_data"] == label.hex(), "qualifying-data")
    bitmap = sum(1 << int(index) for index in bundle["profile"]["references"]).to_bytes(3, "little")
    need(bytes.fromhex(bundle["selection"]) == b"\0\0\0\1\0\x0b\3" + bitmap, "selection")
    sets = load_references(bundle, anchors)
    check_references(bundle, sets, check_quote(bundle))


if __name__ == "__main__":
    try:
        verify(*(json.loads(Path(name).read_text()) for name in sys.argv[1:3]))
    except Failed as failed:
        print(failed)
        sys.exit(4)
    print("verified")
