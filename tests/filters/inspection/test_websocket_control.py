"""The control frames of WebSocket: each stands alone."""

from tests.filters.inspection.drive import DOWN, SECRET, UP, Driven

ASKED = b"GET /ws HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
AGREED = b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"


def test_what_only_the_next_byte_of_a_control_frame_decides_is_found_when_it_ends() -> None:
    driven = Driven().feed(UP, ASKED).feed(DOWN, AGREED)
    driven.feed(DOWN, b"\x89" + bytes([len(SECRET)]) + SECRET[:-1])
    assert driven.findings == []
    assert driven.feed(DOWN, SECRET[-1:]).checks == ["secrets.aws-access-key"]


def test_control_frames_hold_nothing_back() -> None:
    driven = Driven().feed(UP, ASKED).feed(DOWN, AGREED)
    for frame in (b"\x89\x02hi", b"\x81\x02hi", b"\x89\x00", b"\x8a\x04" + SECRET[:4], b"\x88\x02\x03\xe8"):
        driven.feed(DOWN, frame)
        assert driven.out[DOWN] == driven.sent[DOWN]
    assert driven.findings == []
