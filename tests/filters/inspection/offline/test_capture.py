"""Captures as files: every kind of block that holds a frame is read."""

import io
import struct

import pytest

from filters.inspection.offline.capture import Capture


def block(order: str, kind: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    size = struct.pack(order + "I", len(body) + 12)
    return struct.pack(order + "I", kind) + size + body + size


@pytest.mark.parametrize("order", ["<", ">"])
def test_reads_the_obsolete_packet_block(order: str) -> None:
    section = block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
    interfaces = block(order, 1, struct.pack(order + "HHI", 1, 0, 0)) * 2
    # the interface's number, and how many frames were dropped before
    packet = block(order, 2, struct.pack(order + "HH4I", 1, 7, 0, 5_000_000, 5, 9) + b"frame")
    capture = Capture(io.BytesIO(section + interfaces + packet))
    (frame,) = capture
    assert (frame.number, frame.time, frame.link, frame.data, frame.length) == (1, 5.0, 1, b"frame", 9)
    assert capture.broken == ""


def test_an_obsolete_block_of_no_interface_is_told() -> None:
    section = block("<", 0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
    capture = Capture(io.BytesIO(section + block("<", 2, struct.pack("<HH4I", 0, 0, 0, 0, 5, 5) + b"frame")))
    assert list(capture) == []
    assert "contradicts itself" in capture.broken


SECTION = block("<", 0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1))
ONE = block("<", 1, struct.pack("<HHI", 1, 0, 0))
FRAME = block("<", 6, struct.pack("<5I", 0, 0, 0, 5, 5) + b"frame")


@pytest.mark.parametrize("size", [0, 1 << 20, (5 << 20) + 4])
def test_a_block_without_frames_may_be_long(size: int) -> None:
    """Wireshark writes the keys of TLS in front of the frames: one block, a hundred bytes a connection."""
    secrets = block("<", 10, bytes(size))
    capture = Capture(io.BytesIO(SECTION + secrets + ONE + secrets + FRAME + secrets))
    assert [one.data for one in capture] == [b"frame"]
    assert capture.broken == ""


@pytest.mark.parametrize(
    ("size", "told"), [(8, "8 bytes"), (13, "13 bytes"), (0xFFFFFFFC, "ends inside a block")]
)
def test_a_block_without_frames_that_lies_about_its_length_is_told(size: int, told: str) -> None:
    lie = struct.pack("<II", 10, size) + bytes(40)
    capture = Capture(io.BytesIO(SECTION + ONE + FRAME + lie + FRAME))
    assert len(list(capture)) == 1
    assert told in capture.broken
