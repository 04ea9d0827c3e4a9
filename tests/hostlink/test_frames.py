"""The line's wire format."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlink.errors import LinkError
from hostlink.frames import MAX_DATA, Decoder, Frame, Kind, credit_frame

FRAMES = st.builds(
    Frame, st.integers(0, 2**32 - 1), st.sampled_from(list(Kind)), st.binary(min_size=1, max_size=300)
)


@given(st.lists(FRAMES, max_size=8), st.integers(1, 40))
def test_gives_back_what_was_written_however_it_is_cut(frames: list[Frame], piece: int) -> None:
    stream = b"".join(one.encode() for one in frames)
    decoder = Decoder()
    found = [one for at in range(0, len(stream), piece) for one in decoder.feed(stream[at : at + piece])]
    assert found == frames


def test_rejects_unknown_kind() -> None:
    with pytest.raises(LinkError) as raised:
        list(Decoder().feed(b"\0\0\0\1\x09\0\0"))
    assert raised.value.code == "bad-frame"


def test_rejects_frame_that_is_too_long() -> None:
    with pytest.raises(LinkError):
        list(Decoder().feed(b"\0\0\0\1\1" + (MAX_DATA + 1).to_bytes(2, "big")))


def test_rejects_data_without_any() -> None:
    with pytest.raises(LinkError) as raised:
        list(Decoder().feed(Frame(1, Kind.DATA).encode()))
    assert raised.value.code == "bad-frame"


@pytest.mark.parametrize("data", [b"", b"\0\0\0", b"\0\0\0\0\1"])
def test_rejects_credit_of_another_size(data: bytes) -> None:
    with pytest.raises(LinkError):
        _ = Frame(1, Kind.CREDIT, data).credit


def test_credit_is_a_number() -> None:
    assert credit_frame(7, 70_000).credit == 70_000
