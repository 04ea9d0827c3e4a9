"""Records: in order, once, in one direction."""

import pytest

from authn.channel import Channel
from authn.errors import AttestationError


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
