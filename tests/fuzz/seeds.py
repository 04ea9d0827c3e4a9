"""Well-formed examples of everything that is parsed from untrusted bytes; fuzzing begins from them."""

import datetime as dt
import json
import struct
from functools import cache
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn import fields
from authn.beacon import BeaconTracker
from authn.bundle import Anchors, EvidenceBundle
from authn.ek_certificate import CertificateAuthority
from authn.event_log import EV_NO_ACTION, LogEvent, build_event_log
from authn.evidence import Counters, Quote
from authn.handshake_messages import M3, M4, BatchQuote, SessionParameters
from authn.ima import MeasuredFiles
from authn.layers import Layer, encode_layers
from authn.messages import (
    Beacon,
    BeaconAnswer,
    DeliveryReport,
    GatewayRefused,
    SessionProof,
    SessionRequest,
    SessionResult,
    encode,
)
from authn.pcr import HashAlg, PcrSelection
from authn.profile import Profile
from authn.public_area import AttestationKey
from authn.signing import sign_document
from filters.flow import FlowKey, Protocol, Service
from filters.netd import netlink as nl
from filters.netd.protocol import encode_frame, key_to_wire
from tests.authn.ima_lists import entry
from tests.filters.ruleset import policies

ROOT = Path(__file__).parents[2]
VECTORS = json.loads((ROOT / "tests/authn/vectors/handshake.json").read_text())
NOW = dt.datetime(2026, 11, 23, tzinfo=dt.UTC)


def vector(*path: str) -> Any:
    """Return a published vector."""
    found: Any = VECTORS
    for one in path:
        found = found[one]
    return found


@cache
def frames() -> dict[str, bytes]:
    """Bodies of a recorded handshake."""
    return {name: bytes.fromhex(body) for name, body in VECTORS["frames"]}


@cache
def authority() -> CertificateAuthority:
    return CertificateAuthority.create("fuzz", NOW, 30)


def certificate() -> bytes:
    return authority().issue(
        bytes.fromhex(vector("peer", "ek_public")), "web", "0f0e0d0c-0000-4000-8000-000000000001", NOW, 9
    )


def hello() -> bytes:
    public = bytes.fromhex(vector("peer", "ek_public")), bytes.fromhex(vector("peer", "ak_public"))
    return fields.Writer().text("lab/web").blob(certificate()).blob(public[0]).blob(public[1]).finish()


def event_log() -> bytes:
    locality = LogEvent(0, EV_NO_ACTION, bytes(32), b"StartupLocality\0\x03")
    return build_event_log([locality, LogEvent(4, 0x0D, b"d" * 32, b"kernel")])


def ima_list() -> bytes:
    return b"".join(
        entry(f"/bin/{name}", b"x", template=kind).encode()
        for name, kind in (("a", b"ima-ng"), ("b", b"ima-sig"))
    )


def layers() -> list[bytes]:
    return [encode_layers((Layer("tpm", quote(), event_log(), ima_list()),))]


def quote() -> Quote:
    attest, signature = vector("quotes", "gateway")
    return Quote(bytes.fromhex(attest), bytes.fromhex(signature))


@cache
def document() -> bytes:
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    return sign_document("authority", 1, 1e10, {"role": "administrator", "scope": "communication"}, key)


def packet(protocol: int = 6, *, options: int = 0) -> bytes:
    """An IPv4 packet of TCP, UDP or an echo request."""
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45 + options,
        0,
        40,
        1,
        0x4000,
        64,
        protocol,
        0,
        b"\x0a\x00\x00\x02",
        b"\x0a\x00\x00\x03",
    )
    body = (
        struct.pack("!BBHHH", 8, 0, 0, 7, 1)
        if protocol == 1
        else struct.pack("!HHIIHHHH", 40000, 5432, 1, 0, 0x5002, 9, 0, 0)
    )
    return header + bytes(options * 4) + body


def netlink() -> bytes:
    nested = nl.nested(2, nl.u64(1, 7), nl.text(2, "name"))
    return nl.nf_message(nl.Subsystem.NFTABLES, 12, 0, 1, nl.text(1, "quotegate") + nested)


def netd_requests() -> list[bytes]:
    """One request of each kind that carries something."""
    key = FlowKey(IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3"), Service(Protocol.TCP, 5432))
    arguments: dict[str, dict[str, Any]] = {
        "load_policy": {"compiled": policies.small().to_json()}, "trust": {"ip": "10.0.0.2", "expires_at": 5.0},
        "grant": {"lease_id": 7, "key": key_to_wire(key), "ttl_ms": 500}, "revoke": {"lease_ids": [1, 2]},
        "quarantine": {"ip": "10.0.0.2", "on": True}, "release": {"hold_id": 4}, "authority": {"expires_at": None},
    }  # fmt: skip
    return [encode_frame({"id": 1, "verb": verb, "args": args}) for verb, args in arguments.items()]


def m3() -> list[bytes]:
    return [M3(one, bytes(32)).encode() for one in layers()]


def m4() -> list[bytes]:
    return [M4(bytes(32), SessionParameters(200, 5, 7, bytes(32)).encode()).encode()]


def messages() -> list[bytes]:
    """One of each kind that has something inside."""
    proof = BatchQuote(quote(), 0, 2, (bytes(32),))
    return [
        encode(one)
        for one in (
            Beacon(1, bytes(32), 4, bytes(32), proof), Beacon(2, bytes(32), 4, bytes(32), None),
            BeaconAnswer(1, quote(), bytes(32), ima_list()), SessionProof(1, quote(), b""),
            SessionRequest(1, "db", "tcp/5432"), SessionResult(1, True, "s", "a", "b", 9, "c"),
            DeliveryReport(1, "s", 7, "complete", True), GatewayRefused("pcr-mismatch", "PCR 4"),
        )
    ]  # fmt: skip


def tracker(key: AttestationKey) -> BeaconTracker:
    """A session's beacons, with an IMA list to follow."""
    selection, files = PcrSelection.of([10]), MeasuredFiles.from_boot(HashAlg.SHA256)
    counters = Counters(0, 1, 0, True)
    return BeaconTracker(
        key, selection, {10: bytes(32)}, counters, bytes(16), bytes(32), 0.2, 5, bytes, files
    )


def bundles() -> list[bytes]:
    """A bundle with a quote that is not its own: fit for parsing."""
    public = bytes.fromhex(vector("peer", "ek_public")), bytes.fromhex(vector("peer", "ak_public"))
    profile = Profile.of("p", {4: "boot"})
    own = (Layer("tpm", quote(), event_log(), ima_list()),)
    bundle = EvidenceBundle(
        "lab/web", "lab/gateway", 1.0, "accepted", certificate(), *public, bytes(32), bytes(32), profile.selection.encode(),
        profile, own, Counters(0, 1, 0, True), (document(),), Anchors((authority().root_pem().decode(),), {"key": bytes(32)}),
    )  # fmt: skip
    data = bundle.to_json()
    near_the_end = {"taken_at": 253402300799.0, "previous": {**data["previous"], "clock": 1e308}}
    return [json.dumps(one).encode() for one in (data, {**data, **near_the_end})]


def tcp_diag() -> bytes:
    """An answer of the kernel with one connection and its TCP_INFO."""
    body = (
        bytes([2, 1, 0, 0])
        + struct.pack("!HH", 40000, 5432)
        + bytes([10, 0, 0, 2])
        + bytes(12)
        + bytes([10, 0, 0, 3])
    )
    body = body.ljust(72, b"\0") + struct.pack("=HH", 4 + 232, 2) + bytes(232)
    return struct.pack("=IHHII", 16 + len(body), 20, 0, 1, 0) + body


def monitor_requests() -> list[bytes]:
    return [
        json.dumps(one).encode()
        for one in (
            {"op": "restart_peer", "peer": "web", "reason": "x"},
            {"op": "pause", "on": True},
            {"op": "status"},
            {"op": "apply_update", "directory": "update-2", "tries": 2, "within_s": 240},
        )
    ]


def reports() -> list[bytes]:
    return [b"up", b"gateway-failed pcr-mismatch", b"audit-head 12 " + b"ab" * 32]


def half_a_pair() -> bytes:
    """A document that JSON takes and UTF-8 can't hold, by a key that is known."""
    document = {"kind": "\ud800", "version": 1, "not_after": 1, "payload": {}}
    return json.dumps({"document": document, "key": "other", "signature": ""}).encode()


def updates() -> list[bytes]:
    facts = {"size": 40, "sha256": "ab" * 32}
    payload = {
        "image": "gateway",
        "files": {"gateway.img": facts, "gateway.root": facts},
        "approval": {"version": 2, "policy": "ab" * 32, "public": "cd" * 64, "signature": "ef" * 64},
        "references": "{}",
    }
    return [json.dumps(payload).encode()]


def gateway_answers() -> list[bytes]:
    checks = [
        {"check": "rules", "passed": True, "detail": ""},
        {"check": "quote", "passed": False, "detail": "x"},
    ]
    answer = json.dumps({"passed": False, "checks": checks}).encode()
    return [b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n" + answer]


def inspector_reports() -> list[bytes]:
    report = {
        "transport": 6, "source_ip": "10.0.0.2", "source_port": 40000, "destination_ip": "10.0.0.3", "destination_port": 80,
        "protocol_spoken": "http", "rule": "web-to-db", "direction": "request", "reason": "data-leak",
        "check": "secrets.github-token", "detail": "a GitHub token", "inside": "body", "offset": 812,
        "evidence": "ghp_…9d",
    }  # fmt: skip
    messages: list[dict[str, object]] = [
        {"finding": report},
        {
            "material": {
                "files": ["own.toml"],
                "bad": [{"name": "bad.yar", "problem": "no rule", "kept": True}],
                "notes": ["3 of 4"],
            }
        },
        {"confined": ["seccomp"]},
        {"taken": 1},
        {"there": 1, "port": 1024},
        {"alive": True},
    ]
    return [json.dumps(one).encode() for one in messages]
