"""Content in one word: the same bytes on both sides of a serial line."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cli.demo.pieces import Content, Drawn, Given

PIECES = st.one_of(
    st.builds(Drawn, st.integers(0, 1 << 64), st.integers(0, 300)), st.builds(Given, st.binary(max_size=300))
)


@given(st.lists(PIECES, min_size=1, max_size=4))
def test_a_word_brings_the_same_bytes(pieces: list[Drawn | Given]) -> None:
    content = Content.of(*pieces)
    again = Content.parse(content.word())
    assert again == content
    assert again.data() == b"".join(one.data() for one in pieces)
    assert not set(content.word()) & set(" '\"$`\\\n")  # a shell leaves it as it is


def test_drawn_bytes_depend_on_their_seed_and_are_as_many_as_asked_for() -> None:
    assert Drawn(7, 100).data() == Drawn(7, 100).data() != Drawn(8, 100).data()
    assert len(Drawn(7, 100).data()) == 100


def test_receivers_say_size_and_sha256() -> None:
    assert Content.of(Given(b"ab"), Given(b"c")).describe() == f"3 {hashlib.sha256(b'abc').hexdigest()}"


@pytest.mark.parametrize(
    "word", ["", "drawn:1", "drawn:x:1", "given:!", "given:abc", "sent:1:2", "given:YQ==,"]
)
def test_rejects_what_is_no_content(word: str) -> None:
    with pytest.raises(ValueError):
        Content.parse(word)
