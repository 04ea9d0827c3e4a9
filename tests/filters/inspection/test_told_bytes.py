"""Whatever a parser takes in is scanned: credentials as they stand, DNS data of any type, all of a TLS hello."""

import base64
import json
import random
import struct
import time

import pytest

from tests.filters.inspection.drive import DOWN, SECRET, UP, Driven, exchange
from tests.filters.inspection.test_protocols import client_hello, dns_tcp

GITHUB = b"ghp_" + b"Zq8vT3nW5xR7yB2cD4fG6hJ9kL1mP0sAuE" + b"Xb"
FOUND = {"secrets.aws-access-key"}


def asked_with(credentials: bytes) -> list[str]:
    return exchange(
        [(UP, b"GET / HTTP/1.1\r\nHost: h\r\nAuthorization: " + credentials + b"\r\nA: b\r\n\r\n")]
    ).checks


@pytest.mark.parametrize(
    "credentials",
    [b"Basic " + SECRET, b"Bearer " + SECRET + b".e30.x", b"Bearer e30." + SECRET + b".x", b"bearer e30.e30." + SECRET, b"Bearer e30.e30." + GITHUB],
)  # fmt: skip
def test_a_secret_that_stands_as_credentials_is_found(credentials: bytes) -> None:
    assert asked_with(credentials)


def test_ordinary_credentials_in_pieces_are_no_secret() -> None:
    draw, text = random.Random(7), base64.urlsafe_b64encode
    for _ in range(300):
        parts = (
            json.dumps({"alg": "RS256", "kid": draw.randbytes(9).hex()}),
            json.dumps({"sub": "a", "iat": 1_700_000_000}),
        )
        token = b".".join(
            [*(text(one.encode()).strip(b"=") for one in parts), text(draw.randbytes(256)).strip(b"=")]
        )
        assert asked_with(b"Bearer " + token) == []
        assert asked_with(b"Basic " + base64.b64encode(b"user:" + text(draw.randbytes(15)))) == []


def message(records: bytes, count: int, question: bytes = b"\1a\0", *, answer: bool = True) -> bytes:
    flags = 0x8180 if answer else 0x0100
    return struct.pack(">HHHHHH", 7, flags, 1, count, 0, 0) + question + b"\0\1\0\1" + records


def record(kind: int, data: bytes, owner: bytes = b"\xc0\x0c") -> bytes:
    return owner + struct.pack(">HHIH", kind, 1, 60, len(data)) + data


def transferred(told: bytes) -> Driven:
    return Driven().feed(UP, dns_tcp(message(b"", 0, answer=False))).feed(DOWN, dns_tcp(told))


@pytest.mark.parametrize("kind", [6, 41, 48, 64, 256, 257, 65280])
@pytest.mark.parametrize("size", [1, 70_000])
def test_a_secret_in_data_of_any_type_is_found(kind: int, size: int) -> None:
    data = b"\0\x05issue " + SECRET + b" "
    told = dns_tcp(message(record(kind, data), 1))
    driven = Driven().feed(UP, dns_tcp(message(b"", 0, answer=False)))
    for at in range(0, len(told), size):
        driven.feed(DOWN, told[at : at + size])
    assert set(driven.checks) == FOUND
    assert transferred(message(record(kind, b"\0\x05issue letsencrypt.org"), 1)).findings == []


def test_two_messages_are_not_read_as_one() -> None:
    halves = [message(record(65280, one), 1) for one in (SECRET[:9], SECRET[9:])]
    assert transferred(halves[0]).feed(DOWN, dns_tcp(halves[1])).findings == []


@pytest.mark.parametrize("distinct", [False, True])
def test_long_names_without_end_are_a_limit_and_cost_little(distinct: bool) -> None:
    names = [b"\1" + bytes([one % 251 + 1]) + b"\xc0\x0c" if distinct else b"\xc0\x0c" for one in range(4000)]
    told = message(b"".join(record(2, one, b"\0") for one in names), 4000, b"\1a" * 126 + b"\0")
    began = time.perf_counter()
    assert transferred(told).checks == ["labels"]
    assert time.perf_counter() - began < 0.5


def test_a_whole_message_of_a_zone_transfer_passes() -> None:
    """Addresses of IPv6: the longest names there are in earnest, and as many as fit."""
    records = [
        record(12, b"\7h%06d\7example\3org\0" % one, b"\1" + b"%x" % (one % 16) + b"\xc0\x0e")
        for one in range(1700)
    ]
    told = message(b"".join(records), 1700, b"\0010" * 32 + b"\3ip6\4arpa\0")
    assert len(told) < 1 << 16
    driven = transferred(told)
    assert driven.findings == []
    assert driven.out == driven.sent
    short = message(b"".join(record(1, b"\x0a\0\0\1") for _ in range(4000)), 4000, b"\3www\7example\3org\0")
    assert transferred(short).findings == []


def extended(hello: bytes, kind: int, data: bytes) -> bytes:
    """Return a hello with one more extension."""
    body, at = hello[9:], 2 + 32
    at += 1 + body[at]
    at += 2 + int.from_bytes(body[at : at + 2], "big")
    at += 1 + body[at]
    added = struct.pack(">HH", kind, len(data)) + data
    body = body[:at] + (len(body) - at - 2 + len(added)).to_bytes(2, "big") + body[at + 2 :] + added
    return as_record(b"\1" + len(body).to_bytes(3, "big") + body)


def as_record(handshake: bytes) -> bytes:
    return b"\x16\3\1" + len(handshake).to_bytes(2, "big") + handshake


ECH, PRIVATE = 0xFE0D, 0xFF77


@pytest.mark.parametrize("size", [1, 200, 5000])
def test_a_secret_anywhere_in_a_hello_or_behind_it_is_found(size: int) -> None:
    hello = client_hello()
    told = b"key " + SECRET + b" "
    pieces = [extended(hello, kind, told + bytes(20)) for kind in (ECH, PRIVATE)]
    pieces += [client_hello(alpn=("h2", told.decode())), as_record(hello[5:] + told)]
    whole = pieces[0][5:]
    pieces.append(as_record(whole[:-30]) + as_record(whole[-30:]))  # the secret in two records
    for story in pieces[:4]:
        driven = exchange([(UP, story[at : at + size]) for at in range(0, len(story), size)])
        assert set(driven.checks) == FOUND
        assert SECRET not in driven.out[UP]
    assert set(exchange([(UP, pieces[4])]).checks) == FOUND


def test_what_a_server_says_behind_its_hello_is_scanned() -> None:
    body = b"\3\3" + bytes(32) + b"\0\x13\1\0"
    told = as_record(
        b"\2" + len(body).to_bytes(3, "big") + body + b"\x0b\0\0\x40" + b"CN=" + SECRET + bytes(41)
    )
    driven = Driven().feed(UP, client_hello()).feed(DOWN, told)
    assert set(driven.checks) == FOUND


def test_ordinary_hellos_pass() -> None:
    for number in range(50):
        hello = extended(client_hello(f"h{number}.example"), ECH, bytes(200))
        driven = exchange([(UP, hello)])
        assert driven.findings == []
        assert driven.out == driven.sent
