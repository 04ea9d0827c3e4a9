"""Data in DNS names, cut and coded in many ways, both ways; and the names that ordinary programs ask for again and again."""

import base64
import random
from collections.abc import Callable, Iterator
from itertools import product

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRRNSEC3, DNSRRRSIG, DNSRRSRV

from filters.inspection.finding import Refusal
from filters.inspection.protocols.dns_tunnel import HALF_S, TUNNEL_BYTES, TunnelWatch
from filters.reason import DropReason
from tests.filters.inspection.drive import SECRET
from tests.filters.inspection.test_datagrams import Inspected, query, udp

STOLEN = random.Random(4).randbytes(6000)
CODERS: dict[str, Callable[[bytes], str]] = {
    "hex": bytes.hex,
    "base32": lambda data: base64.b32encode(data).decode().strip("=").lower(),
    "base32, capitals": lambda data: base64.b32encode(data).decode().strip("="),
    "base64url": lambda data: base64.urlsafe_b64encode(data).decode().strip("=").replace("_", "9"),
}
# how long its labels are, and what stands behind them; `%d` numbers domains
FORMS = {
    "one long label": (60, "t.example"), "two labels": (30, "t.example"), "behind a number": (48, "7.t.example"), "below a deep name": (52, "a.b.c.d.example"),
    "no domain": (60, ""), "only a top level": (50, "example"),
}  # fmt: skip
ORDINARY = (
    "www.example.org", "d2hrivdxn8ekm8.cloudfront.net", "ec2-10-0-0-1.us-west-2.compute.amazonaws.com", "internal-k8s-ingress-0123456789abcdef01.eu-central-1.elb.amazonaws.com",
    "my-service.my-namespace.svc.cluster.local", "selector1-example-org._domainkey.example.onmicrosoft.com", "4.3.2.1.in-addr.arpa", "_ldap._tcp.dc._msdcs.corp.example",
    "a1b2c3d4e5f60718293a4b5c6d7e8f90.assets.example.net", "r3---sn-4g5e6nsz.googlevideo.com",
)  # fmt: skip


def names(coder: str, form: str) -> Iterator[str]:
    size, domain = FORMS[form]
    text = CODERS[coder](STOLEN)
    count = 4 if size < 60 else 3
    step = min(size * count, 230 - len(domain))
    for at in range(0, len(text), step):
        part = text[at : at + step]
        labels = [part[one : one + size] for one in range(0, len(part), size)]
        yield ".".join([*labels, domain] if domain else labels)


def passes(seen: Iterator[str]) -> int:
    """Return how many names a watch lets pass."""
    watch, count = TunnelWatch(), 0
    try:
        for name in seen:
            watch.see(name.encode())
            count += 1
    except Refusal as refusal:
        assert refusal.reason is DropReason.DATA_LEAK
    return count


@pytest.mark.parametrize("coder", CODERS)
def test_data_in_names_is_stopped_early(coder: str) -> None:
    for form in FORMS:
        sent = sum(len(one) for one in list(names(coder, form))[: passes(names(coder, form))])
        assert sent < 1600, form


@pytest.mark.parametrize("size", [8, 12, 20])
def test_data_in_short_labels_is_stopped_early(size: int) -> None:
    text = STOLEN.hex()
    pieces = [text[at : at + size] for at in range(0, len(text), size)]
    asked = [".".join([*pieces[at : at + 5], "t.example"]) for at in range(0, len(pieces) - 5, 5)]
    assert passes(iter(asked)) < 40


def test_what_is_asked_for_again_and_again_counts_once() -> None:
    asked = [name for _, name in product(range(500), ORDINARY)]
    assert passes(iter(asked)) == len(asked)
    addresses = [".".join(f"{number:032x}"[::-1]) + ".ip6.arpa" for number in range(500)]
    assert passes(iter(addresses)) == 500


def test_memory_is_bounded() -> None:
    watch, draw = TunnelWatch(), random.Random(1)
    for number in range(3000):
        watch.see(f"{draw.randbytes(20).hex()}.d{number}.example".encode())
    assert len(watch.found) <= 256


def denial(owners: list[str], signed: int = 50, *, asks: bool = False) -> bytes:
    """An answer (or a question with as much) that proves with hashes that there is no such record (RFC 5155), as servers of signed zones give it."""
    said = [DNSRRNSEC3(rrname=one, nexthashedownername=b"x" * 20, hashlength=20) for one in owners]
    said += [
        DNSRRRSIG(rrname=one, typecovered=signed, signersname="com", signature=b"s" * 64) for one in owners
    ]
    return bytes(DNS(qr=not asks, qd=DNSQR(qname="a.com", qtype="DS"), ns=said))


def hashed_owners() -> list[str]:
    draw = random.Random(7)
    return [base64.b32hexencode(draw.randbytes(20)).decode().lower() + ".com" for _ in range(400)]


def test_takes_no_proof_of_dnssec_for_a_tunnel() -> None:
    inspect, owners = Inspected(), hashed_owners()
    for at in range(0, len(owners), 4):
        assert inspect(udp(query("a.com"))) is None
        assert inspect(udp(denial(owners[at : at + 4]), answer=True)) is None


def test_finds_a_tunnel_in_the_owners_of_other_records() -> None:
    inspect, owners = Inspected(), hashed_owners()
    assert inspect(udp(query("a.com"))) is None
    verdicts = [inspect(udp(denial(owners[at : at + 4], 1), answer=True)) for at in range(0, len(owners), 4)]
    assert verdicts[0] is None
    assert verdicts[-1] is DropReason.DATA_LEAK


@pytest.mark.parametrize("asks", [False, True], ids=["longer than a hash", "in a question"])
def test_finds_a_tunnel_in_what_only_calls_itself_a_hash(asks: bool) -> None:
    inspect = Inspected()
    owners = hashed_owners() if asks else [f"x{one}" for one in hashed_owners()]
    assert inspect(udp(query("a.com"))) is None
    verdicts = [
        inspect(udp(denial(owners[at : at + 4], asks=asks), answer=not asks))
        for at in range(0, len(owners), 4)
    ]
    assert verdicts[0] is None
    assert verdicts[-1] is DropReason.DATA_LEAK


def test_forgets_with_time_and_stops_what_is_quick() -> None:
    """Two new names below one domain each hour, for weeks, are a program's; a tunnel has more to say."""
    watch, draw = TunnelWatch(), random.Random(3)
    for hour in range(24 * 30):
        watch.age(1000.0 + hour * HALF_S)
        for _ in range(2):
            watch.see(f"internal-k8s-{draw.randbytes(12).hex()}.eu.elb.amazonaws.com".encode())
    told = 0
    with pytest.raises(Refusal):
        for minute in range(24 * 60):
            watch.age(1000.0 + 24 * 30 * HALF_S + 60 * minute)
            watch.see(f"{draw.randbytes(25).hex()}.t.example".encode())
            told += 50
    assert told <= TUNNEL_BYTES + 50


def test_what_is_seen_again_is_not_what_is_forgotten() -> None:
    watch, draw = TunnelWatch(), random.Random(5)
    same = [f"{draw.randbytes(15).hex()}.cdn.example".encode() for _ in range(30)]
    for hour in range(100):
        watch.age(hour * HALF_S)
        for name in same:
            watch.see(name)
    (domain,) = watch.found.values()
    assert domain.encoded == sum(domain.names.values()) == 900


def test_a_pair_of_machines_is_let_on_after_a_while() -> None:
    inspect, text = Inspected(), list(names("hex", "one long label"))
    verdicts = [inspect(udp(query(name))) for name in text]
    assert verdicts[-1] is DropReason.DATA_LEAK
    inspect.now = 600.0
    assert inspect(udp(query(text[-1]), client_port=5)) is DropReason.DATA_LEAK
    inspect.now = 600.0 + HALF_S
    assert inspect(udp(query(text[-1]), client_port=6)) is None


def test_data_in_answers_is_stopped_too() -> None:
    inspect, verdicts = Inspected(), []
    for number, name in enumerate(names("base32", "one long label")):
        asked = f"{number}.example"
        told = bytes(DNS(qr=1, qd=DNSQR(qname=asked), an=DNSRR(rrname=asked, type="CNAME", rdata=name)))
        inspect(udp(query(asked)))
        verdicts.append(inspect(udp(told, answer=True)))
    assert verdicts[0] is None
    assert verdicts[-1] is DropReason.DATA_LEAK


@pytest.mark.parametrize("kind", ["TXT", "HINFO", "SPF", "SRV"])
def test_a_secret_in_pieces_of_a_record_is_found(kind: str) -> None:
    halves = SECRET[:9], SECRET[9:]
    if kind == "SRV":
        record = DNSRRSRV(rrname="a.example", target=f"x.{SECRET.decode()}.example")
    else:
        data = b"".join(bytes([len(one)]) + one for one in halves)
        record = DNSRR(rrname="a.example", type={"TXT": 16, "HINFO": 13, "SPF": 99}[kind], rdata=b"")
        raw = bytes(
            DNS(qr=1, qd=DNSQR(qname="a.example"), an=DNSRR(rrname="a.example", type="NULL", rdata=data))
        )
        place = raw.index(data)
        raw = raw[: place - 10] + int(record.type).to_bytes(2, "big") + raw[place - 8 :]
    inspect = Inspected()
    assert inspect(udp(query("a.example"))) is None
    told = raw if kind != "SRV" else bytes(DNS(qr=1, qd=DNSQR(qname="a.example"), an=record))
    assert inspect(udp(told, answer=True)) is DropReason.DATA_LEAK
