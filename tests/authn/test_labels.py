"""No quote made for one purpose serves for another: every pair, over a real TPM."""

import itertools
from collections.abc import Callable

import pytest

from authn import labels
from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.pcr import PcrSelection
from authn.public_area import AttestationKey
from authn.quote import ExpectedQuote, verify_quote
from authn.tpm import Tpm

pytestmark = pytest.mark.tpm
SELECTION = PcrSelection.of([4])
ONE, EPOCH = b"\1" * 32, b"\1" * 16
# every field is the same where it can be: only the purpose differs
PURPOSES: dict[str, Callable[[], bytes]] = {
    "gateway batch": lambda: labels.gateway_batch(1, ONE),
    "gateway beacon": lambda: labels.gateway_beacon(1, ONE),
    "gateway beacon leaf": lambda: labels.gateway_beacon_leaf(1, ONE, ONE),
    "peer handshake": lambda: labels.peer_handshake(ONE),
    "beacon": lambda: labels.beacon(ONE, EPOCH, ONE),
    "session": lambda: labels.session(ONE, EPOCH, ONE, 1),
    "audit head": lambda: labels.audit_head(1, ONE, 1),
}


@pytest.mark.parametrize(("made_for", "offered_as"), list(itertools.permutations(PURPOSES, 2)))
def test_rejects_a_quote_offered_for_another_purpose(
    tpm: Tpm, key: AttestationKey, made_for: str, offered_as: str
) -> None:
    values = tpm.read_pcrs(SELECTION)
    quote = tpm.quote(SELECTION, PURPOSES[made_for]())
    verify_quote(quote, ExpectedQuote(key, SELECTION, PURPOSES[made_for](), values))
    with pytest.raises(AttestationError) as caught:
        verify_quote(quote, ExpectedQuote(key, SELECTION, PURPOSES[offered_as](), values))
    assert caught.value.failure is AttestationFailure.REPLAYED_NONCE


def test_every_purpose_is_tested() -> None:
    made = {
        name
        for name, value in vars(labels).items()
        if callable(value) and value.__module__ == labels.__name__
    }
    assert {name.replace("_", " ") for name in made if not name.startswith("_")} == set(PURPOSES)


def test_fields_do_not_run_into_each_other() -> None:
    assert labels.beacon(ONE + b"x", EPOCH, ONE) != labels.beacon(ONE, b"x" + EPOCH, ONE)
    assert labels.session(ONE, EPOCH, ONE, 1) != labels.session(ONE, EPOCH, ONE, 2)
