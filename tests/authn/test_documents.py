"""Signed documents, the port map, Merkle batches, labels, messages and the channel."""

import contextlib
import dataclasses
import itertools
import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from authn import labels, merkle, messages
from authn.channel import Channel
from authn.errors import AttestationError
from authn.evidence import Quote
from authn.fields import FrameReader, FrameType, encode_frame
from authn.handshake_messages import BatchQuote
from authn.portmap import KIND, PortEntry, PortMap
from authn.signing import DocumentError, key_id, sign_document, verify_document

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
KEYS = {key_id(PUBLIC): PUBLIC}
DOCUMENT = sign_document("thing", 1, 100.0, {"a": 1}, KEY)


def test_a_signed_document_verifies() -> None:
    assert verify_document(DOCUMENT, "thing", KEYS, 99.0).payload == {"a": 1}


@pytest.mark.parametrize(
    ("raw", "kind", "now", "code"),
    [
        (DOCUMENT, "thing", 101.0, "expired"),
        (DOCUMENT, "other", 1.0, "wrong-kind"),
        (DOCUMENT.replace(b'"a":1', b'"a":2'), "thing", 1.0, "bad-signature"),
        (DOCUMENT.replace(b'"not_after":100.0', b'"not_after":900.0'), "thing", 1.0, "bad-signature"),
        (sign_document("thing", 1, 100.0, {}, Ed25519PrivateKey.generate()), "thing", 1.0, "wrong-key"),
        (b"{}", "thing", 1.0, "malformed"),
        (b"\xff", "thing", 1.0, "malformed"),
        (b"[" * 100000, "thing", 1.0, "malformed"),
    ],
)
def test_rejects_a_document(raw: bytes, kind: str, now: float, code: str) -> None:
    with pytest.raises(DocumentError) as caught:
        verify_document(raw, kind, KEYS, now)
    assert caught.value.code == code


def _entry(**changes: object) -> PortEntry:
    data = {"peer": "web", "port": "p1", "mac": "52:54:00:00:00:01", "ip": "10.0.0.2", "uuid": "u1"}
    return PortEntry.from_json({**data, **changes})


def test_a_port_map_survives_signing() -> None:
    portmap = PortMap(1, (_entry(),))
    document = verify_document(portmap.sign(100.0, KEY), KIND, KEYS, 1.0)
    assert PortMap.from_document(document) == portmap


@pytest.mark.parametrize(
    "changes",
    [
        {"peer": "We b"},
        {"mac": "01:00:5e:00:00:01"},
        {"mac": "zz"},
        {"ip": "10.0.0.300"},
        {"peer": 'a"; drop'},
    ],
)
def test_rejects_a_malformed_place(changes: dict[str, str]) -> None:
    with pytest.raises(DocumentError):
        _entry(**changes)


@pytest.mark.parametrize("what", ["peer", "port", "mac", "ip", "uuid"])
def test_rejects_an_ambiguous_port_map(what: str) -> None:
    other = {"peer": "db", "port": "p2", "mac": "52:54:00:00:00:02", "ip": "10.0.0.3", "uuid": "u2"}
    other.pop(what)
    with pytest.raises(DocumentError, match="more than once"):
        PortMap(1, (_entry(), _entry(**other)))


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 100])
def test_every_leaf_proves_itself_and_nothing_else(count: int) -> None:
    leaves = [os.urandom(32) for _ in range(count)]
    root = merkle.root(leaves)
    for index in range(count):
        path = merkle.path(leaves, index)
        assert merkle.root_of_path(leaves[index], index, count, path) == root
        assert merkle.root_of_path(os.urandom(32), index, count, path) != root
        assert merkle.root_of_path(leaves[index], index, count, (*path, bytes(32))) is None
        for foreign in {(index + 1) % count, 0, count - 1} - {index}:
            assert merkle.root_of_path(leaves[index], foreign, count, path) != root


def test_no_label_serves_for_another() -> None:
    same = b"x" * 32
    made = [
        labels.gateway_batch(1, same), labels.gateway_beacon(1, same), labels.gateway_beacon_leaf(1, same, same),
        labels.peer_handshake(same), labels.beacon(same, same[:16], same), labels.session(same, same[:16], same, 1),
        labels.audit_head(1, same, 1),
    ]  # fmt: skip
    assert all(one != other for one, other in itertools.combinations(made, 2))


def test_label_fields_do_not_run_into_each_other() -> None:
    assert labels.beacon(b"ab", b"c", b"") != labels.beacon(b"a", b"bc", b"")


QUOTE = st.builds(Quote, st.binary(max_size=300), st.binary(max_size=100))
HASH = st.binary(min_size=32, max_size=32)
NUMBER = st.integers(0, 2**64 - 1)
TEXT = st.text(max_size=50)
PROOF = st.builds(
    BatchQuote, QUOTE, st.integers(0, 1023), st.integers(1, 1024), st.lists(HASH, max_size=10).map(tuple)
)
MESSAGES = st.one_of(
    st.builds(messages.Beacon, NUMBER, HASH, NUMBER, HASH, st.none() | PROOF),
    st.builds(messages.BeaconAnswer, NUMBER, QUOTE, HASH, st.binary(max_size=50)),
    st.builds(messages.SessionRequest, NUMBER, TEXT, TEXT),
    st.builds(messages.SessionChallenge, NUMBER, HASH, TEXT, TEXT, TEXT),
    st.builds(messages.SessionProof, NUMBER, QUOTE, st.binary(max_size=50)),
    st.builds(messages.SessionResult, NUMBER, st.booleans(), TEXT, TEXT, TEXT, NUMBER, TEXT),
    st.builds(messages.SessionOffer, TEXT, TEXT, TEXT, TEXT),
    st.builds(messages.SessionClosed, TEXT, TEXT),
    st.builds(messages.DeliveryQuery, NUMBER, TEXT, NUMBER, NUMBER),
    st.builds(messages.DeliveryReport, NUMBER, TEXT, NUMBER, TEXT, st.booleans()),
    st.builds(messages.GatewayRefused, TEXT, TEXT),
)


@given(MESSAGES)
def test_messages_survive_the_wire_and_refuse_any_cut(message: messages.Message) -> None:
    wire = messages.encode(message)
    assert messages.decode(wire) == message
    for broken in (wire[:-1], wire + b"\0"):
        with pytest.raises(AttestationError):
            messages.decode(broken)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    with contextlib.suppress(AttestationError):
        messages.decode(data)


@given(
    st.lists(
        st.tuples(st.sampled_from([FrameType.M1, FrameType.RECORD]), st.binary(max_size=100)), max_size=5
    ),
    st.integers(1, 7),
)
def test_frames_survive_any_cutting(frames: list[tuple[FrameType, bytes]], step: int) -> None:
    stream = b"".join(encode_frame(*frame) for frame in frames)
    reader, got = FrameReader(), []
    for at in range(0, len(stream), step):
        got += reader.feed(stream[at : at + step])
    assert [(one.type, one.body) for one in got] == frames


@pytest.mark.parametrize("header", [b"\0\0\0\1\xff", b"\xff\xff\xff\xff\x20", b"\0\0\x20\0\x10"])
def test_rejects_unknown_or_too_long_frames_before_their_body(header: bytes) -> None:
    with pytest.raises(AttestationError):
        FrameReader().feed(header)


def test_records_are_refused_when_repeated_reordered_or_reflected() -> None:
    first, second = (Channel(b"s" * 32).seal(b"one"), b"")
    sender = Channel(b"s" * 32)
    first, second = sender.seal(b"one"), sender.seal(b"two")
    for order in ((first, first), (second,), (first[:-1],), (b"",)):
        receiver = Channel(b"s" * 32)
        with pytest.raises(AttestationError):
            for record in order:
                receiver.open(record)
        with pytest.raises(AttestationError, match="died"):
            receiver.open(second)


def test_rekeying_goes_on_in_step() -> None:
    sender, receiver = Channel(b"s" * 32, rekey_every=3), Channel(b"s" * 32, rekey_every=3)
    records = [sender.seal(b"same") for _ in range(10)]
    assert [receiver.open(record) for record in records] == [b"same"] * 10
    assert len(set(records)) == 10


def test_a_document_is_json_for_everybody() -> None:
    assert dataclasses.is_dataclass(PortEntry)
    assert set(json.loads(DOCUMENT)) == {"document", "key", "signature"}
