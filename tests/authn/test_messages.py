"""The messages in records: what is written is read, what is cut is refused."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authn import messages
from authn.errors import AttestationError
from authn.evidence import Quote
from authn.handshake_messages import BatchQuote

QUOTE = st.builds(Quote, st.binary(max_size=300), st.binary(max_size=100))


HASH = st.binary(min_size=32, max_size=32)


NUMBER = st.integers(0, 2**64 - 1)


TEXT = st.text(max_size=50)


PROOF = st.builds(
    BatchQuote, QUOTE, st.integers(0, 1023), st.integers(1, 1024), st.lists(HASH, max_size=10).map(tuple)
)


MESSAGES = st.one_of(
    st.builds(messages.Beacon, NUMBER, HASH, NUMBER, HASH, st.none() | PROOF),
    st.builds(messages.BeaconAnswer, NUMBER, QUOTE, HASH, st.binary(max_size=50)),
    st.builds(messages.SessionRequest, NUMBER, TEXT, TEXT),
    st.builds(messages.SessionChallenge, NUMBER, HASH, TEXT, TEXT, TEXT),
    st.builds(messages.SessionProof, NUMBER, QUOTE, st.binary(max_size=50)),
    st.builds(messages.SessionResult, NUMBER, st.booleans(), TEXT, TEXT, TEXT, NUMBER, TEXT),
    st.builds(messages.SessionOffer, TEXT, TEXT, TEXT, TEXT),
    st.builds(messages.SessionClosed, TEXT, TEXT),
    st.builds(messages.DeliveryQuery, NUMBER, TEXT, NUMBER, NUMBER),
    st.builds(messages.DeliveryReport, NUMBER, TEXT, NUMBER, TEXT, st.booleans()),
    st.builds(messages.GatewayRefused, TEXT, TEXT),
)


@given(MESSAGES)
def test_messages_survive_the_wire_and_refuse_any_cut(message: messages.Message) -> None:
    wire = messages.encode(message)
    assert messages.decode(wire) == message
    for broken in (wire[:-1], wire + b"\0"):
        with pytest.raises(AttestationError):
            messages.decode(broken)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    with contextlib.suppress(AttestationError):
        messages.decode(data)
