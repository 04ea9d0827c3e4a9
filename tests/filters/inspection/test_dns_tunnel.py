"""Data in DNS names, cut and coded in many ways, both ways; and the names that ordinary programs ask for again and again."""

import base64
import random
from collections.abc import Callable, Iterator
from itertools import product

import pytest
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRRSRV

from filters.inspection.finding import Refusal
from filters.inspection.protocols.dns_tunnel import TunnelWatch
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
