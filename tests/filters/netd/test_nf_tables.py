"""The bytes of netlink messages: written as the kernel's headers say, read without trusting lengths."""

import struct
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.errors import NetdError
from filters.netd import conntrack, elements, log, neighbours, netlink, queue
from filters.netd import nf_tables as nft
from filters.policy.compiled import Pin
from filters.reason import DropReason
from filters.ruleset.names import ChainName, SetName

A = IPv4Address("10.0.0.2")


def types(raw: bytes) -> list[tuple[int, int, int]]:
    return [(one.type, one.flags, one.sequence) for one in netlink.messages(raw)]


def test_batch_is_framed_and_only_its_last_step_is_acknowledged() -> None:
    raw, last = nft.batch([*nft.add(elements.trusted(A, 400), elements.live(7, 9))], 5)
    assert types(raw) == [(0x10, 1, 5), (0xA0C, 0x401, 6), (0xA0C, 0x405, 7), (0x11, 1, 8)]
    assert last == 7


def test_changes_of_one_set_share_a_message_in_order() -> None:
    raw, _ = nft.batch(nft.replace(elements.trusted(A, 400)), 1)
    assert [one[0] for one in types(raw)] == [0x10, 0xA0C, 0xA0E, 0xA0C, 0x11]
    raw, _ = nft.batch(nft.add(*(elements.trusted(A + n, 400) for n in range(600))), 1)
    assert [one[0] for one in types(raw)] == [0x10, 0xA0C, 0xA0C, 0xA0C, 0x11]


def test_element_message_is_as_the_kernel_takes_it() -> None:
    raw, _ = nft.batch(nft.add(elements.trusted(A, 400)), 1)
    message = list(netlink.messages(raw))[1]
    assert message.payload.hex() == (
        "01000000"
        "0e00010071756f74656761746500" + "0000"
        "0c00020074727573746564" + "00"
        "2c000380" + "28000180"
        "0c000180" + "08000100" + "0a000002"
        "0c000400" + "0000000000000190"
        "0c000500" + "0000000000000190"
    )


def test_flush_has_no_elements() -> None:
    raw, _ = nft.batch([nft.Flush(SetName.LIVE)], 1)
    found = netlink.attribute_map(list(netlink.messages(raw))[1].payload, netlink.NFGEN_LENGTH)
    assert set(found) == {1, 2}


def test_queue_rule_has_no_bypass() -> None:
    raw, last = nft.queue_rule_batch(ChainName.HOLD_QUEUE, 17, 3)
    rule = list(netlink.messages(raw))[1]
    assert (rule.type, rule.flags, rule.sequence) == (0xA06, 0x405, last)
    assert b"NFQUEUE\0" in rule.payload
    assert rule.payload.endswith(struct.pack("=HHH2x", 17, 1, 0))


def element(key: bytes, expiration: int | None) -> bytes:
    parts = [netlink.nested(1, netlink.attribute(1, key))]
    if expiration is not None:
        parts.append(netlink.u64(5, expiration))
    return netlink.nested(1, *parts)


def test_reads_elements() -> None:
    payload = bytes(4) + netlink.nested(3, element(A.packed, 250), element(A.packed, None))
    first, second = nft.read_elements(payload)
    assert (first.key, first.data, first.remaining_ms) == (A.packed, b"", 250)
    assert second.remaining_ms is None
    assert first.identity == second.identity


def test_queue_messages() -> None:
    (bind,) = netlink.messages(queue.bind_message(17, 1, 68))
    assert bind.type == 0x302
    assert bind.payload[:4] == bytes([0, 0, 0, 17])
    (verdict,) = netlink.messages(queue.verdict_message(17, 9, queue.Verdict.ACCEPT))
    assert verdict.payload[4:].hex() == "0c000200" + "00000001" + "00000009" + "08000300" + "00000000"
    payload = bytes(4) + netlink.attribute(1, struct.pack("!IHB", 9, 0x0800, 0)) + netlink.attribute(10, b"E")
    assert queue.read_packet(payload) == queue.QueuedPacket(9, b"E")


def test_log_samples_carry_their_reason() -> None:
    payload = bytes(4) + netlink.attribute(10, b"qg no-rule \0") + netlink.attribute(9, b"E")
    sample, number = log.read_sample(payload + netlink.u32(12, 5))
    assert sample is not None
    assert (sample.reason, sample.packet, number) == (DropReason.NO_RULE, b"E", 5)
    assert log.read_sample(bytes(4) + netlink.attribute(10, b"other\0"))[0] is None


def test_conntrack_deletes_by_lease_or_all() -> None:
    (one,) = netlink.messages(conntrack.delete_message(7, 1))
    assert netlink.attribute_map(one.payload, 4) == {8: b"\0\0\0\x07", 21: b"\xbf\xff\xff\xff"}
    (every,) = netlink.messages(conntrack.delete_message(None, 1))
    assert every.payload == bytes(4)


def test_neighbour_is_permanent() -> None:
    (message,) = netlink.messages(neighbours.neighbour_message(Pin(A, "52:54:00:aa:00:01", "a"), 3, 1))
    assert struct.unpack_from("=BxxxiH", message.payload) == (2, 3, 0x80)
    assert netlink.attribute_map(message.payload, 12) == {1: A.packed, 2: bytes.fromhex("525400aa0001")}


def test_rejects_message_cut_short() -> None:
    raw = nft.get_generation(1)
    with pytest.raises(NetdError, match="cut short"):
        list(netlink.messages(raw[:-4]))


def test_rejects_attribute_longer_than_its_message() -> None:
    with pytest.raises(NetdError, match="cut short"):
        list(netlink.attributes(struct.pack("=HH", 100, 1) + bytes(8)))


def test_rejects_attribute_of_no_length() -> None:
    with pytest.raises(NetdError, match="cut short"):
        list(netlink.attributes(bytes(8)))


@given(st.binary(max_size=64))
def test_reading_ends_for_any_bytes(data: bytes) -> None:
    for read in (netlink.messages, netlink.attributes):
        try:
            for _ in read(data):
                pass
        except NetdError as error:
            assert error.code == "kernel"
