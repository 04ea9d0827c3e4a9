"""The pure decisions of the gateway: states, limits, budgets, books, drops, events."""

import json
import re
import struct
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from authn.failure import AttestationFailure
from filters.flow import FlowKey, Protocol, Service
from filters.policy.model import OnFail
from filters.reason import DropReason
from gateway.control.limits import Bucket, PlaceLimits
from gateway.daemon.drops import DropCollector, DroppedFlow, parse_packet
from gateway.errors import GatewayError
from gateway.events import model
from gateway.events.community_id import community_id
from gateway.events.ocsf import Envelope, event_code, to_ocsf
from gateway.recovery.budget import Remedy, prescribe
from gateway.registry.states import PeerState, Trigger, next_state
from gateway.sessions.book import Session, SessionBook
from gateway.sessions.proofs import ProofBook

IP = IPv4Address("10.0.0.2")


def test_who_sends_too_much_waits_for_its_own_tokens() -> None:
    bucket = Bucket.full(3.0, 10.0, now=0.0)
    assert [bucket.take(0.0) for _ in range(5)] == [0, 0, 0, 0.1, 0.2]
    assert bucket.take(0.2) == pytest.approx(0.1)
    assert bucket.take(100.0) == 0
    assert [bucket.take(100.0) for _ in range(3)] == [0, 0, pytest.approx(0.1)]


def test_only_a_verified_quote_makes_trusted() -> None:
    for state in PeerState:
        for trigger in Trigger:
            try:
                after = next_state(state, trigger)
            except GatewayError:
                continue
            if after is PeerState.TRUSTED and state is not PeerState.TRUSTED:
                assert trigger in (Trigger.VERIFIED, Trigger.ANSWERED)


def test_a_quarantined_peer_comes_back_by_release_alone() -> None:
    ways = {
        trigger
        for trigger in Trigger
        if _next(PeerState.QUARANTINED, trigger) not in (None, PeerState.QUARANTINED)
    }
    assert ways == {Trigger.RELEASED}


def _next(state: PeerState, trigger: Trigger) -> PeerState | None:
    try:
        return next_state(state, trigger)
    except GatewayError:
        return None


def test_one_handshake_in_flight_per_place() -> None:
    limits = PlaceLimits()
    assert limits.admit(IP, 0.0)
    assert not limits.admit(IP, 0.0)
    assert limits.admit(IPv4Address("10.0.0.3"), 0.0)
    limits.done(IP, 0.0, failed=False)
    assert limits.admit(IP, 0.0)


def test_failures_are_charged_to_their_place() -> None:
    limits, admitted = PlaceLimits(), 0
    for _ in range(100):
        if limits.admit(IP, 0.0):
            admitted += 1
            limits.done(IP, 0.0, failed=True)
    assert admitted == 5
    assert limits.admit(IP, 1.0)


def shaking_hands(limits: PlaceLimits, every_s: float, seconds: float) -> list[bool]:
    """Try to shake hands again and again, each time well; tell which tries were let in."""
    admitted = []
    for number in range(int(seconds / every_s)):
        now = number * every_s
        admitted.append(limits.admit(IP, now))
        if admitted[-1]:
            limits.done(IP, now, failed=False)
    return admitted


def test_rejects_good_handshakes_without_end() -> None:
    assert sum(shaking_hands(PlaceLimits(), 0.05, 200.0)) <= 1000 + 2 * 200 + 1


@pytest.mark.parametrize(("every_s", "seconds"), [(0.6, 3600.0), (0.2, 300.0)])
def test_a_machine_that_reconnects_all_the_time_is_let_in(every_s: float, seconds: float) -> None:
    """As one does whose line breaks after every handshake: agents wait 200 ms at least."""
    assert all(shaking_hands(PlaceLimits(), every_s, seconds))


def test_rejects_long_lists_that_keep_the_gateway_busy() -> None:
    """A list of the longest kind takes it about a second; whether it is good does not matter."""
    for failed, at_once in ((True, 1), (False, 8)):
        limits, admitted = PlaceLimits(), 0
        for second in range(600):
            if limits.admit(IP, float(second)):
                admitted += 1
                limits.done(IP, float(second), failed=failed, received=4 << 20)
        assert admitted <= at_once + 600 / 30 + 1


def test_a_machine_with_a_list_of_some_length_is_let_in() -> None:
    limits = PlaceLimits()
    for number in range(20):
        assert limits.admit(IP, number * 0.5)
        limits.done(IP, number * 0.5, failed=False, received=500_000)


ON_FAIL = OnFail("restart", 3, 900.0, "quarantine")


@pytest.mark.parametrize(
    ("restarts", "remedy", "left"),
    [
        ([], Remedy.RESTART, 2),
        ([10.0, 20.0], Remedy.RESTART, 0),
        ([10.0, 20.0, 30.0], Remedy.QUARANTINE, 0),
        ([-900.0, 20.0, 30.0], Remedy.RESTART, 0),
        ([110.0, 120.0, 130.0], Remedy.QUARANTINE, 0),  # the clock was set back since
    ],
)
def test_the_restart_budget(restarts: list[float], remedy: Remedy, left: int) -> None:
    got = prescribe(ON_FAIL, restarts, 100.0)
    assert (got.remedy, got.left) == (remedy, left)


def test_a_profile_can_ask_for_no_remedy_or_quarantine_at_once() -> None:
    assert prescribe(OnFail("none", 3, 900.0, "none"), [], 0.0).remedy is Remedy.NONE
    assert prescribe(OnFail("quarantine", 3, 900.0, "none"), [], 0.0).remedy is Remedy.QUARANTINE


def test_what_no_restart_mends_is_quarantined_at_once() -> None:
    assert prescribe(OnFail(), [], 0.0, AttestationFailure.FIRMWARE_CHANGED).remedy is Remedy.QUARANTINE
    assert prescribe(OnFail(then="none"), [], 0.0, AttestationFailure.FIRMWARE_CHANGED).remedy is Remedy.NONE
    assert prescribe(OnFail(), [], 0.0, AttestationFailure.UNKNOWN_FILE).remedy is Remedy.RESTART


def session(number: int, source: str = "a", destination: str = "b") -> Session:
    service = Service(Protocol.TCP, number)
    key = FlowKey(IP, IPv4Address("10.0.0.3"), service)
    return Session(f"s{number}", number, source, destination, service, key, "r", 0.0, 10.0)


def test_lease_ids_are_never_zero_and_never_used_twice_at_once() -> None:
    book = SessionBook(first_lease_id=0x3FFF_FFFE)
    book.add(session(1))
    assert [book.next_lease_id() for _ in range(4)] == [0x3FFF_FFFE, 0x3FFF_FFFF, 2, 3]


def test_the_highest_bit_of_a_lease_id_says_that_it_is_inspected() -> None:
    book = SessionBook(first_lease_id=5)
    assert [book.next_lease_id(inspected=one) for one in (True, False)] == [0x8000_0005, 6]


def test_a_peers_sessions_are_those_at_either_end() -> None:
    book = SessionBook()
    for one in (session(1), session(2, "c", "a"), session(3, "c", "d")):
        book.add(one)
    assert {one.session_id for one in book.of_peer("a")} == {"s1", "s2"}
    assert [one.session_id for one in book.expired(10.0)] == ["s1", "s2", "s3"]
    assert book.by_key(session(3).key) == session(3, "c", "d")


def test_a_challenge_is_answered_once_by_its_peer_in_time() -> None:
    book = ProofBook()
    book.expect("a", 1, b"n", deadline=10.0)
    assert book.take("b", 1, 5.0) is None
    assert book.take("a", 2, 5.0) is None
    assert book.take("a", 1, 5.0) is not None
    assert book.take("a", 1, 5.0) is None
    book.expect("a", 3, b"n", deadline=10.0)
    assert book.take("a", 3, 10.1) is None


def packet(protocol: int, ports: bytes = b"\x04\xd2\x15\x38", fragment: int = 0) -> bytes:
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 40, 0, fragment, 64, protocol, 0, IP.packed, IPv4Address("10.0.0.3").packed
    )
    return header + ports


def known() -> DropCollector:
    return DropCollector({str(IP)})


def test_dropped_packets_become_one_event_per_flow() -> None:
    collector = known()
    for _ in range(3):
        collector.add(parse_packet(packet(6), DropReason.NO_RULE))
    collector.add(parse_packet(packet(17), DropReason.NO_RULE))
    events = [one for one in collector.take(0.0) if isinstance(one, model.FlowDropped)]
    assert [(one.protocol, one.destination_port, one.count) for one in events] == [
        (6, 5432, 3),
        (17, 5432, 1),
    ]
    assert collector.take(1.0) == []


@pytest.mark.parametrize("raw", [b"", b"\x60" + bytes(60), packet(6)[:19]])
def test_what_is_no_ipv4_packet_is_told_as_lost(raw: bytes) -> None:
    collector = known()
    collector.add(parse_packet(raw, DropReason.NO_RULE))
    assert collector.take(0.0) == [model.EventsCounted("samples of dropped packets that are not IPv4", 1)]
    assert collector.take(1000.0) == []


def changing(collector: DropCollector, seconds: int, sources: list[str] | None = None) -> list[model.Event]:
    """Send fifty packets a second, each to another port; return all that goes on record."""
    found: list[model.Event] = []
    for second in range(seconds):
        for port in range(50):
            source = sources[(second * 50 + port) % len(sources)] if sources else str(IP)
            collector.add(DroppedFlow(source, "10.0.0.3", 17, second, port, DropReason.NO_RULE))
        found += collector.take(float(second))
    collector.add(DroppedFlow(str(IP), "10.0.0.3", 17, 0, 0, DropReason.NO_RULE))
    return found + collector.take(seconds + 1000.0)


def test_rejects_a_record_for_each_packet_to_another_port() -> None:
    found = changing(known(), 600)
    flows = [one for one in found if isinstance(one, model.FlowDropped)]
    sums = [one for one in found if isinstance(one, model.PacketsDropped)]
    assert len(flows) <= 50 + 600 * 0.2 + 2
    assert 5 <= len(sums) <= 12
    assert {(one.source_ip, one.reason) for one in sums} == {(str(IP), "no-rule")}
    assert sum(one.count for one in (*flows, *sums)) == 600 * 50 + 1


def test_rejects_a_record_for_each_address_that_nobody_has() -> None:
    found = changing(known(), 100, [f"203.0.113.{number}" for number in range(200)])
    flows = [one for one in found if isinstance(one, model.FlowDropped)]
    sums = [one for one in found if isinstance(one, model.PacketsDropped)]
    assert len(flows) <= 50 + 100 * 0.2 + 3
    assert {one.source_ip for one in sums} == {""}
    assert sum(one.count for one in (*flows, *sums)) == 100 * 50 + 1


def test_one_source_does_not_use_up_what_another_may_record() -> None:
    collector = known()
    changing(collector, 100, ["203.0.113.1"])
    collector.add(parse_packet(packet(6), DropReason.NO_RULE))
    assert any(isinstance(one, model.FlowDropped) for one in collector.take(2000.0))


def test_flows_beyond_what_is_held_are_in_the_sum() -> None:
    collector = known()
    for port in range(1000):
        collector.add(DroppedFlow(str(IP), "10.0.0.3", 17, 1, port, DropReason.NO_RULE))
    assert sum(one.count for one in collector.take(0.0)) == 1000


def test_a_later_fragment_has_no_ports() -> None:
    flow = parse_packet(packet(6, fragment=100), DropReason.NOT_ATTESTED)
    assert flow is not None and (flow.source_port, flow.destination_port) == (0, 0)


@pytest.mark.parametrize(
    ("protocol", "source", "destination", "expected"),
    [
        # the specification's own baseline vectors (seed 0)
        (6, ("128.232.110.120", 34855), ("66.35.250.204", 80), "1:LQU9qZlK+B5F3KDmev6m5PMibrg="),
        (17, ("192.168.1.52", 54585), ("8.8.8.8", 53), "1:d/FP5EW3wiY1vCndhwleRRKHowQ="),
        (1, ("192.168.0.89", 8), ("192.168.0.1", 0), "1:X0snYXpgwiv9TZtqg64sgzUn6Dk="),
    ],
)
def test_community_id(
    protocol: int, source: tuple[str, int], destination: tuple[str, int], expected: str
) -> None:
    ends = (IPv4Address(source[0]), source[1], IPv4Address(destination[0]), destination[1])
    assert community_id(protocol, *ends) == expected


EVENTS: list[model.Event] = [
    model.GatewayStarted("e"),
    model.PeerStateChanged("a", "x", "y", "r", "d"),
    model.HandshakeCompleted("a", "10.0.0.2", "s", {"4": "00"}, 1.0),
    model.AttestationFailed("a", "10.0.0.2", "pcr-mismatch", "d", True),
    model.EnrollmentChanged("a", "10.0.0.2", "approved", "f", ""),
    model.SessionGranted("s", "a", "b", "10.0.0.2", "10.0.0.3", 6, 80, "r", 1000, "request"),
    model.SessionRefused("a", "b", "tcp/80", "no-rule", "d", ""),
    model.SessionClosed("s", "a", "b", "admin-cut"),
    model.Delivered("s", "a", "b", 1, 1, True),
    model.FlowDropped("10.0.0.2", "10.0.0.3", 6, 1, 2, "no-rule", 3),
    model.PacketsDropped("10.0.0.2", "no-rule", 3),
    model.ContentFound(
        "10.0.0.2",
        1,
        "10.0.0.3",
        2,
        6,
        "r",
        "http",
        "to-client",
        "malware",
        "malware.eicar",
        "d",
        "body",
        68,
        "X…*",
    ),
    model.MaterialTaken(("own.toml",), ("bad.yar: no rule",)),
    model.InspectorSilent(7, "inspector-down", "no sign of life for 12 s"),
    model.PeerRemedied("a", "restart", "r", 2),
    model.AuthorityChanged("granted", 1, 2.0, "uid 0"),
    model.AuditRecordLost(7, 3),
    model.AuditPruned(7, "00", "uid 0"),
    model.AuditFilling(100, "d"),
    model.PolicyApplied("r", "p", "uid 0", 0, "applied"),
    model.PolicyClosed("r", "policy.toml:3:1: no such word"),
    model.DriftRepaired("d", True),
    model.EventsLost("w", 1),
    model.EventsCounted("w", 1),
    model.GatewayProved(("rules", "inspector", "quote")),
    model.GatewayUpdated("fell-back", 2, "to version 1: kernel panic"),
]


def test_a_number_of_ordinary_events_is_no_finding_and_what_was_lost_is_one() -> None:
    counted, lost = (
        to_ocsf(kind("delivery questions of web", 30), Envelope(7, 1000, "lab/gateway", "rev"))
        for kind in (model.EventsCounted, model.EventsLost)
    )
    assert (counted["class_uid"], counted["severity_id"], counted["status_id"]) == (6002, 2, 1)
    assert (lost["class_uid"], lost["severity_id"], lost["status_id"]) == (2004, 4, 2)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_every_event_has_ocsfs_required_fields(event: model.Event) -> None:
    record = to_ocsf(event, Envelope(7, 1000, "lab/gateway", "rev"))
    assert {"class_uid", "category_uid", "activity_id", "type_uid", "severity_id", "time", "metadata"} <= set(
        record
    )
    assert record["type_uid"] == record["class_uid"] * 100 + record["activity_id"]
    assert record["metadata"]["product"]["name"] == "Quotegate"
    assert record["unmapped"]["policy_revision"] == "rev"
    json.dumps(record)


@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_the_papers_name_the_class_of_every_event(event: model.Event) -> None:
    code, kind = event_code(event), to_ocsf(event, Envelope(7, 1000, "lab/gateway", "rev"))["class_uid"]
    (classes,) = re.findall(
        rf"^\| `{code}` \| ([\d, ]+) \|", Path("docs/events.md").read_text(), re.MULTILINE
    )
    assert str(kind) in classes.split(", ")


def test_a_flow_event_has_rule_endpoints_and_community_id() -> None:
    granted = to_ocsf(EVENTS[5], Envelope(1, 1, "g", "r"))
    assert granted["firewall_rule"] == {"uid": "r"}
    dropped = to_ocsf(EVENTS[9], Envelope(1, 1, "g", "r"))
    assert dropped["connection_info"]["community_uid"].startswith("1:")
    assert dropped["status_code"] == "no-rule"


def test_a_sum_of_dropped_packets_names_its_source_where_somebody_has_it() -> None:
    told, nobodys = (
        to_ocsf(model.PacketsDropped(ip, "no-rule", 3), Envelope(1, 1, "g", "r")) for ip in (str(IP), "")
    )
    assert told["src_endpoint"] == {"ip": str(IP)}
    assert told["traffic"] == {"packets": 3}
    assert "src_endpoint" not in nobodys


def test_every_event_type_is_among_the_samples() -> None:
    assert {type(event) for event in EVENTS} == set(model.Event.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize(("outcome", "good"), [("blessed", True), ("committed", True), ("fell-back", False)])
def test_an_update_that_fell_back_is_a_failure(outcome: str, good: bool) -> None:
    record = to_ocsf(model.GatewayUpdated(outcome, 2, "d"), Envelope(1, 1, "g", "r"))
    assert record["status_id"] == (1 if good else 2)
