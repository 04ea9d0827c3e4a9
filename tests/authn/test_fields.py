"""Frames survive any cutting; unknown or long ones are refused before their body."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authn.errors import AttestationError
from authn.fields import FrameReader, FrameType, encode_frame


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
