from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.errors import NetdError
from filters.flow import FlowKey, Protocol, Service
from filters.netd.protocol import (
    MAX_FRAME,
    Drift,
    Dropped,
    Event,
    FrameReader,
    Held,
    HoldDropped,
    LeaseState,
    Lost,
    Snapshot,
    encode_frame,
    event_from_wire,
    event_to_wire,
    key_from_wire,
    key_to_wire,
    snapshot_from_wire,
    snapshot_to_wire,
)
from filters.reason import DropReason

KEY = FlowKey(IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3"), Service(Protocol.TCP, 5432))
keys = st.builds(
    FlowKey,
    st.ip_addresses(v=4),
    st.ip_addresses(v=4),
    st.builds(Service, st.sampled_from(Protocol), st.integers(0, 65535)),
)


@given(keys)
def test_flow_keys_round_trip(key: FlowKey) -> None:
    assert key_from_wire(key_to_wire(key)) == key


@pytest.mark.parametrize(
    "event",
    [
        Held(3, KEY),
        HoldDropped(0, KEY, DropReason.RESOURCE_LIMIT),
        Dropped(DropReason.NO_RULE, b"\x45\x00"),
        Lost("hold-queue", 2),
        Drift("the table is missing", True),
    ],
)
def test_events_round_trip(event: Event) -> None:
    (message,) = FrameReader().feed(encode_frame(event_to_wire(event)))
    assert event_from_wire(message) == event


def test_snapshot_round_trips() -> None:
    snapshot = Snapshot(
        {KEY.source: 400}, (KEY.destination,), None, (LeaseState(7, KEY, 9), LeaseState(8, None, 1)), 2
    )
    assert snapshot_from_wire(snapshot_to_wire(snapshot)) == snapshot


@given(st.lists(st.dictionaries(st.text(), st.integers())), st.integers(1, 7))
def test_frames_survive_any_cut(messages: list[dict[str, int]], size: int) -> None:
    stream = b"".join(encode_frame(message) for message in messages)
    reader = FrameReader()
    found = [one for at in range(0, len(stream), size) for one in reader.feed(stream[at : at + size])]
    assert found == messages


@pytest.mark.parametrize("body", [b"", b"[]", b"nonsense", b"\xff\xfe", b"[" * 100_000])
def test_rejects_frame_that_is_no_object(body: bytes) -> None:
    with pytest.raises(NetdError) as refused:
        FrameReader().feed(len(body).to_bytes(4, "big") + body)
    assert refused.value.code == "malformed"


def test_rejects_too_long_frame_before_it_has_come() -> None:
    with pytest.raises(NetdError, match="at most"):
        FrameReader().feed((MAX_FRAME + 1).to_bytes(4, "big"))


@pytest.mark.parametrize(
    "data",
    [
        None,
        [],
        ["10.0.0.2", "10.0.0.3", 6],
        ["10.0.0.2", "10.0.0.3", 6, 65536],
        ["10.0.0.2", "10.0.0.3", 47, 1],
        ["10.0.0.2", "x", 6, 1],
        ["::1", "10.0.0.3", 6, 1],
        [1, "10.0.0.3", 6, 1],
    ],
)
def test_rejects_malformed_key(data: object) -> None:
    with pytest.raises(NetdError):
        key_from_wire(data)


@pytest.mark.parametrize(
    "data",
    [{"event": "held"}, {"event": "x"}, {}, {"event": "dropped", "reason": "no", "packet": ""}],
)
def test_rejects_malformed_event(data: dict[str, object]) -> None:
    with pytest.raises(NetdError):
        event_from_wire(data)
