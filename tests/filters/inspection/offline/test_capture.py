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
