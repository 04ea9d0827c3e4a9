"""Records: in order, once, in one direction."""

import pytest

from authn.channel import Channel
from authn.errors import AttestationError
from authn.failure import AttestationFailure


def refused() -> "pytest.RaisesExc[AttestationError]":
    bad = AttestationFailure.BAD_RECORD
    return pytest.raises(AttestationError, check=lambda error: error.failure is bad)


@pytest.mark.parametrize("order", [(0, 0), (1,), (0, 0, 1), (1, 0)])
def test_rejects_repeated_or_reordered_records(order: tuple[int, ...]) -> None:
    sender, receiver = Channel(b"s" * 32), Channel(b"s" * 32)
    records = [sender.seal(b"one"), sender.seal(b"two")]
    with refused():
        for number in order:
            receiver.open(records[number])


@pytest.mark.parametrize("cut", [slice(-1), slice(0, 0), slice(1, None)])
def test_rejects_an_altered_record(cut: slice) -> None:
    with refused():
        Channel(b"s" * 32).open(Channel(b"s" * 32).seal(b"one")[cut])


def test_rejects_a_record_of_the_other_direction() -> None:
    with refused():
        Channel(b"p" * 32).open(Channel(b"g" * 32).seal(b"one"))


def test_a_channel_dies_with_its_first_bad_record() -> None:
    """Also for the record that would have been due next."""
    sender, receiver = Channel(b"s" * 32), Channel(b"s" * 32)
    sender.seal(b"lost")
    second = sender.seal(b"two")
    with refused():
        receiver.open(b"bad")
    with refused():
        receiver.open(second)


def test_rekeying_goes_on_in_step() -> None:
    sender, receiver = Channel(b"s" * 32, rekey_every=3), Channel(b"s" * 32, rekey_every=3)
    records = [sender.seal(b"same") for _ in range(10)]
    assert [receiver.open(record) for record in records] == [b"same"] * 10
    assert len(set(records)) == 10
