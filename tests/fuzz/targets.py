"""Every parser of untrusted bytes as a fuzz target: it may refuse with its declared error, and nothing else.

Where a format has one encoding, what was taken must also be written back byte for byte.
"""

import contextlib
import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass

from authn import fields, merkle, messages
from authn.attest import parse_quote
from authn.bundle import BundleError, EvidenceBundle
from authn.channel import Channel
from authn.ek_certificate import verify_ek_chain
from authn.enrollment import EnrollmentVerifier
from authn.errors import AttestationError, TpmError
from authn.event_log import parse_event_log
from authn.evidence import Quote
from authn.handshake_gateway import GatewayConfig, GatewayHandshake
from authn.handshake_messages import M1, M2, M3, M4, M2Core, SessionParameters
from authn.ima import parse_ima_list
from authn.layers import decode_layers, encode_layers
from authn.public_area import AttestationKey, key_name, parse_ecc
from authn.quote import check_signature
from authn.reference import ReferenceSet
from authn.reference_shelf import ReferenceShelf
from authn.signing import DocumentError, SignedDocument
from authn.state_policy import Approval
from filters.errors import NetdError, PolicyError
from filters.inspection.finding import Refusal
from filters.inspection.fingerprints import set_file
from filters.inspection.fingerprints.print_set import FingerprintError
from filters.inspection.objects.clamd import judge_answer
from filters.inspection.offline.capture import CaptureError
from filters.inspection.protocols.dns import parse_message
from filters.netd import netlink as nl
from filters.netd.arguments import Arguments
from filters.netd.log import read_sample
from filters.netd.nf_tables import read_counter, read_elements, read_table
from filters.netd.packet import read_flow
from filters.netd.protocol import FrameReader as NetdFrames
from filters.netd.queue import read_packet
from filters.policy.parser import parse_policy
from filters.policy.services import parse_duration_ms, parse_services
from filters.reason import DropReason
from gateway.agent import tcp_diag
from gateway.authority.gate import AuthorityGate
from gateway.daemon.drops import parse_packet
from gateway.inspection.report import parse_report
from hostlink.errors import LinkError
from hostlink.frames import Decoder, Frame, Kind, credit_frame
from hostlink.reports import Lines, encode, parse_line
from tests.fuzz import inspection, parsers, seeds
from tests.vmhost.image.programs import small_uki
from vmhost.errors import HostError
from vmhost.image.predict import predict
from vmhost.monitor import protocol as monitor
from vmhost.update.manifest import Manifest, read_manifest
from vmhost.vm.gateway_api import complaint_of, parse_answer

Check = Callable[[bytes], object]


@dataclass(frozen=True)
class Target:
    """`check` gets the bytes; `refusals` are the errors it may raise; `parts` names the functions it covers."""

    check: Check
    seeds: Callable[[], list[bytes]]
    refusals: tuple[type[Exception], ...]
    parts: tuple[str, ...]

    def try_one(self, data: bytes) -> None:
        """Feed one input; whatever is raised beyond the refusals is a finding."""
        with contextlib.suppress(*self.refusals):
            self.check(data)


def _written_back(read: Callable[[bytes], object], write: Callable[..., bytes]) -> Check:
    def check(data: bytes) -> None:
        found = read(data)
        if write(found) != data:
            raise AssertionError(f"read {found!r}, which is written in another way")

    return check


def _stream(reader: Callable[[], object], feed: str) -> Check:
    """A stream in pieces gives what it gives in one; the first byte says how it is cut."""

    def take(pieces: list[bytes]) -> tuple[list[object], str]:
        one, found = reader(), list[object]()
        try:
            for piece in pieces:
                found += getattr(one, feed)(piece)
        except (AttestationError, NetdError) as error:
            return found, str(error)
        return found, ""

    def check(data: bytes) -> None:
        size, rest = (data[0] % 16 + 1, data[1:]) if data else (1, b"")
        pieces = [rest[at : at + size] for at in range(0, len(rest), size)]
        whole, cut = take([rest]), take(pieces)
        if whole[1] != cut[1] or (not whole[1] and whole[0] != cut[0]):
            raise AssertionError(f"{whole} in one piece, {cut} in pieces of {size}")

    return check


def _handshake(data: bytes) -> None:
    """A gateway's handshake gets m1 and m3 from somebody who may write anything."""
    machine = GatewayHandshake(
        GatewayConfig("gateway-1", bytes(34), bytes(16), "lab", seeds.event_log()),
        lambda: SessionParameters(200, 5, 7, bytes(32)), bytes,
    )  # fmt: skip
    half = int.from_bytes(data[:2], "big")
    for kind, body in ((fields.FrameType.M1, data[2 : 2 + half]), (fields.FrameType.M3, data[2 + half :])):
        machine.receive(kind, body)


def _beacon(data: bytes) -> None:
    """A beacon's answer from somebody who holds the session's keys and no TPM."""
    message = messages.decode(data)
    if isinstance(message, messages.BeaconAnswer):
        tracker = seeds.tracker(_KEY)
        tracker.next_beacon(0.0, (0, bytes(32)), None)
        if tracker.judge(dataclasses.replace(message, number=1), 0.01):
            raise AssertionError("a pass without a TPM")


def _merkle(data: bytes) -> None:
    cursor = fields.Reader(data)
    index, size, leaf = cursor.u64(), cursor.u64(), cursor.blob()
    path = [cursor.take(32) for _ in range(cursor.u8())]
    found = merkle.root_of_path(leaf, index, size, path)
    if found is not None and not (index < size and len(path) <= size.bit_length()):
        raise AssertionError("a path longer than the tree is high")


_READ_ARGUMENTS: tuple[Callable[[Arguments], object], ...] = (
    Arguments.ip, Arguments.lease_id, Arguments.lease_ids, Arguments.ttl_ms, Arguments.hold_id, Arguments.key,
    Arguments.policy, lambda a: a.flag("on"), lambda a: a.time("expires_at"), lambda a: a.optional_time("expires_at"),
)  # fmt: skip


def _netd_arguments(data: bytes) -> None:
    for request in NetdFrames().feed(data):
        args = Arguments(request.get("args"))
        for read in _READ_ARGUMENTS:
            with contextlib.suppress(NetdError):
                read(args)


def _line(data: bytes) -> None:
    """Cut in any two pieces it gives the same frames, and these are what was sent."""
    cut = data[0] % (len(data) + 1) if data else 0
    decoder = Decoder()
    found = [*decoder.feed(data[:cut]), *decoder.feed(data[cut:])]
    written = b"".join(one.encode() for one in found)
    assert data.startswith(written)
    for one in found:
        if one.kind is Kind.CREDIT:
            _ = one.credit


def _guest_line(data: bytes) -> None:
    """In pieces it says what it says in one; no line is told twice."""

    def take(size: int) -> list[object]:
        lines, pieces = Lines(), [data[at : at + size] for at in range(0, len(data), size)]
        found = [one for piece in pieces for one in lines.feed(piece)]
        return [type(one) if isinstance(one, LinkError) else one for one in found]

    whole = take(len(data) or 1)
    assert take(data[0] % 16 + 1 if data else 1) == whole
    assert len(whole) <= data.count(b"\n") + 1


def _netlink(data: bytes) -> None:
    for message in nl.messages(data):
        _ = message.error
        nl.attribute_map(message.payload, nl.NFGEN_LENGTH)
        for read in (read_elements, read_table, read_counter, read_sample, read_packet):
            with contextlib.suppress(NetdError):
                read(message.payload)


def _packet(data: bytes) -> None:
    read_flow(data)
    parse_packet(data, DropReason.NO_SESSION)


def _text(parse: Callable[[str], object]) -> Check:
    return lambda data: parse(data.decode("utf-8", "surrogateescape"))


def _grant(data: bytes) -> None:
    AuthorityGate({"other": bytes(32)}).check(data, 0.0)


def _update(data: bytes) -> None:
    """What nobody signed is refused; what an administrator signed may still be nonsense."""
    for read in (lambda: read_manifest(data, {}, 0.0), lambda: ReferenceShelf((), {}).take(data, 0.0)):
        with contextlib.suppress(HostError, DocumentError):
            read()
    try:
        payload = json.loads(data)
    except (ValueError, RecursionError):
        return  # nothing that anybody could have signed
    if isinstance(payload, dict):
        with contextlib.suppress(DocumentError):
            ReferenceSet.from_document(SignedDocument("reference-set", 2, 0.0, payload, ""))
        Manifest.from_document(SignedDocument("gateway-update", 2, 0.0, payload, ""))


_KEY = AttestationKey.from_public(
    bytes.fromhex(seeds.vector("peer", "ak_public")), bytes.fromhex(seeds.vector("peer", "ek_public"))
)
_AUTHN, _NETD = (AttestationError,), (NetdError,)


def _frame(name: str) -> Callable[[], list[bytes]]:
    return lambda: [seeds.frames()[name]]


TARGETS: dict[str, Target] = {
    "frames": Target(
        _stream(fields.FrameReader, "feed"),
        lambda: [b"\3" + fields.encode_frame(fields.FrameType.M1, seeds.frames()["M1"])], _AUTHN, ("Cursor", "Reader", "FrameReader"),
    ),
    "m1": Target(_written_back(M1.decode, lambda m: m.encode()), _frame("M1"), _AUTHN, ("M1.decode",)),
    "m2": Target(lambda d: M2Core.decode(M2.decode(d).core), _frame("M2"), _AUTHN, ("M2.decode", "M2Core.decode")),
    "m3": Target(lambda d: decode_layers(M3.decode(d).evidence), seeds.m3, _AUTHN, ("M3.decode",)),
    "m4": Target(lambda d: SessionParameters.decode(M4.decode(d).parameters), seeds.m4, _AUTHN, ("M4.decode", "SessionParameters.decode")),
    "handshake": Target(
        _handshake, lambda: [len(seeds.frames()["M1"]).to_bytes(2, "big") + seeds.frames()["M1"] + seeds.frames()["M3"]],
        _AUTHN, ("GatewayHandshake",),
    ),
    "messages": Target(_written_back(messages.decode, messages.encode), seeds.messages, _AUTHN, ("decode",)),
    "layers": Target(_written_back(decode_layers, encode_layers), seeds.layers, _AUTHN, ("decode_layers",)),
    "event-log": Target(parse_event_log, lambda: [seeds.event_log()], _AUTHN, ("parse_event_log",)),
    "ima-list": Target(
        _written_back(parse_ima_list, lambda found: b"".join(one.encode() for one in found)),
        lambda: [seeds.ima_list()], _AUTHN, ("parse_ima_list",),
    ),
    "attest": Target(parse_quote, lambda: [seeds.quote().attest], _AUTHN, ("parse_quote",)),
    "signature": Target(lambda d: check_signature(Quote(b"", d), _KEY), lambda: [seeds.quote().signature], _AUTHN, ("check_signature",)),
    "public-area": Target(
        lambda d: (parse_ecc(d), key_name(d)),
        lambda: [bytes.fromhex(seeds.vector("peer", one)) for one in ("ek_public", "ak_public")], _AUTHN, ("parse_ecc",),
    ),
    "ek-certificate": Target(
        lambda d: verify_ek_chain(d, bytes.fromhex(seeds.vector("peer", "ek_public")), [seeds.authority().certificate], seeds.NOW),
        lambda: [seeds.certificate()], _AUTHN, ("verify_ek_chain",),
    ),
    "enrollment": Target(
        lambda d: EnrollmentVerifier([seeds.authority().certificate], seeds.NOW, bytes).receive_hello(d),
        lambda: [seeds.hello()], _AUTHN, ("_Hello.parse", "EnrollmentVerifier.receive_hello", "EnrollmentVerifier.receive_proof"),
    ),
    "merkle": Target(_merkle, lambda: [bytes(7) + b"\2" + bytes(7) + b"\5" + b"\0\0\0\1x\3" + bytes(96)], _AUTHN, ("root_of_path",)),
    "record": Target(lambda d: Channel(bytes(32)).open(d), lambda: [Channel(bytes(32)).seal(b"beacon")], _AUTHN, ("Channel.open",)),
    "beacon": Target(_beacon, seeds.messages, _AUTHN, ("BeaconTracker.note_files", "BeaconTracker.judge")),
    "documents": Target(_grant, lambda: [seeds.document(), seeds.half_a_pair()], (DocumentError,), ("verify_document", "_parse", "AuthorityGate.check")),
    "evidence-bundle": Target(
        lambda d: json.dumps(EvidenceBundle.parse(d).to_json()), seeds.bundles, (BundleError,), ("EvidenceBundle.parse",)
    ),
    "policy": Target(
        _text(parse_policy), lambda: [(seeds.ROOT / "examples/policy.toml").read_bytes()], (PolicyError,), ("parse_policy",)
    ),
    "services": Target(_text(parse_services), lambda: [b"tcp/80-90", b"udp/53", b"icmp/echo", b"any"], (ValueError,), ("parse_services",)),
    "durations": Target(_text(parse_duration_ms), lambda: [b"500ms", b"8h", b"15m"], (ValueError,), ("parse_duration_ms",)),
    "netd-frames": Target(_stream(NetdFrames, "feed"), lambda: [b"\7" + one for one in seeds.netd_requests()], _NETD, ("FrameReader",)),
    "netd-arguments": Target(_netd_arguments, seeds.netd_requests, _NETD, ("Arguments",)),
    "netlink": Target(_netlink, lambda: [seeds.netlink()], _NETD, ("messages", "attributes", "read_elements", "read_sample", "read_packet")),
    "packets": Target(_packet, lambda: [seeds.packet(one, options=two) for one in (1, 6, 17) for two in (0, 2)], (), ("read_flow", "parse_packet")),
    "tcp-diag": Target(lambda d: tcp_diag.parse(d, closed=False), lambda: [seeds.tcp_diag()], (), ("tcp_diag.parse",)),
    "stream": Target(inspection.stream, inspection.conversations, (), ("StreamInspector.feed",)),
    **{
        name: Target(parsers.check(opened), lambda name=name: parsers.examples(name), (), (f"{name} parser",))  # type: ignore[misc]
        for name, opened in parsers.PARSERS.items()
    },
    "coding": Target(parsers.coding, parsers.coded, (), ("Stack.feed",)),
    "charset": Target(parsers.charset, parsers.texts, (), ("Recoded.feed",)),
    "json-text": Target(parsers.json_text, lambda: [b'{"a\\u0041": "\\\\\\n"}'], (), ("JsonText.feed",)),
    "rule-lines": Target(parsers.rule_lines, inspection.rule_files, (), ("understand",)),
    "mime": Target(inspection.mime, inspection.messages, (Refusal,), ("message_parts", "form_parts")),
    "archive": Target(inspection.archive, inspection.archives, (Refusal,), ("members", "check_zip")),
    "capture": Target(inspection.capture, inspection.captures, (CaptureError,), ("Capture", "Twin.events")),
    "rules": Target(inspection.rules, inspection.rule_files, (), ("load_rules", "read_rules")),
    "dns-message": Target(parse_message, lambda: [b"\0\1\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"], (Refusal,), ("parse_message",)),
    "datagrams": Target(inspection.datagrams, inspection.packets, (), ("Datagrams.verdict", "plain_ends", "read_datagram", "read_ends", "read_shift")),
    "fingerprints": Target(inspection.fingerprints, lambda: [b"\x40" + inspection.PROTECTED[:600], b"\0" + bytes(99)], (), ("Watch.scan", "Engine.whole")),
    "fingerprint-set": Target(
        _written_back(set_file.parse, set_file.encode), inspection.set_seeds, (FingerprintError,), ("parse",)
    ),
    "markup": Target(inspection.markup, lambda: [b"<p>one &#65;<![CDATA[two]]><br/></p>", b"\xff\xfe<\0p\0>\0", b"\xbb\xfa\xc3\xdc"], (), ("in_utf8", "plain")),
    "clamd-answer": Target(judge_answer, lambda: [b"stream: OK\0", b"stream: Eicar FOUND\0", b"INSTREAM size limit exceeded. ERROR\0"], (), ("judge_answer",)),
    "inspector-report": Target(lambda d: parse_report(json.loads(d)), seeds.inspector_reports, (ValueError, TypeError), ("parse_report", "_finding", "_text", "_texts", "_number", "_bad_file")),
    "image": Target(predict, lambda: [small_uki()], (HostError,), ("predict",)),
    "approval": Target(_text(Approval.from_json), lambda: [Approval(1, "ab" * 32, "cd" * 64, "ef" * 64).to_json().encode()], (TpmError,), ("Approval.from_json",)),
    "update": Target(_update, seeds.updates, (DocumentError,), ("read_manifest", "ReferenceShelf.take")),
    "gateway-answer": Target(lambda d: complaint_of(parse_answer(d)), seeds.gateway_answers, (HostError,), ("parse_answer",)),
    "line": Target(_line, lambda: [Frame(1, Kind.OPEN, b"monitor").encode() + credit_frame(2, 9).encode()], (LinkError,), ("Decoder.feed",)),
    "report": Target(_written_back(parse_line, lambda one: encode(one)[:-1]), seeds.reports, (LinkError,), ("parse_line",)),
    "guest-line": Target(_guest_line, lambda: [b"\3" + b"\n".join((*seeds.reports(), b"x" * 200, b""))], (), ("Lines.feed",)),
    "monitor": Target(lambda d: monitor.parse(d, 0), seeds.monitor_requests, (HostError,), ("monitor.parse",)),
}  # fmt: skip
