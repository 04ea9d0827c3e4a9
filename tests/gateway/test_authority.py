"""The administrator's authority: which grants are refused."""

import math
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.signing import DocumentError, key_id, sign_document
from filters.policy.evaluator import AuthorityState
from gateway.authority.gate import LONGEST_S, AuthorityGate, Moment, create_grant

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
NOW = 1_000_000.0
LATER = NOW + 3600
VALID, EXPIRED, ABSENT = AuthorityState.VALID, AuthorityState.EXPIRED, AuthorityState.ABSENT


def gate() -> AuthorityGate:
    return AuthorityGate({key_id(PUBLIC): PUBLIC}, sequence=5)


def refusal(grant: bytes) -> str:
    """Return the code of the refusal, which has changed nothing."""
    one = gate()
    with pytest.raises(DocumentError) as caught:
        one.check(grant, NOW)
    assert (one.sequence, one.not_after) == (5, None)
    return caught.value.code


def signed(payload: dict[str, Any]) -> bytes:
    return sign_document("authority", 6, LATER, payload, KEY)


def test_a_good_grant_is_taken_up() -> None:
    one = gate()
    one.accept(one.check(create_grant(6, LATER, KEY, not_before=NOW), NOW), Moment(NOW, 10.0))
    assert (one.sequence, one.state(Moment(NOW, 10.0))) == (6, VALID)
    one.revoke()
    assert (one.sequence, one.state(Moment(NOW, 10.0))) == (6, ABSENT)


def test_rejects_a_replayed_grant() -> None:
    assert refusal(create_grant(5, LATER, KEY)) == "replayed"


def test_rejects_an_overtaken_grant() -> None:
    assert refusal(create_grant(1, LATER, KEY)) == "replayed"


def test_rejects_an_expired_grant() -> None:
    assert refusal(create_grant(6, NOW - 1, KEY)) == "expired"


def test_rejects_an_out_of_scope_grant() -> None:
    assert refusal(create_grant(6, LATER, KEY, scope="everything")) == "out-of-scope"


def test_rejects_a_wrong_keys_grant() -> None:
    assert refusal(create_grant(6, LATER, Ed25519PrivateKey.generate())) == "wrong-key"


def test_rejects_a_wrong_keys_grant_in_the_right_keys_name() -> None:
    forged = create_grant(6, LATER, Ed25519PrivateKey.generate())
    name = key_id(PUBLIC).encode()
    at = forged.index(b'"key":"') + 7
    assert refusal(forged[:at] + name + forged[at + len(name) :]) == "bad-signature"


def test_rejects_a_wrong_roles_grant() -> None:
    assert refusal(create_grant(6, LATER, KEY, role="user")) == "wrong-role"


def test_rejects_a_grant_from_the_future() -> None:
    assert refusal(create_grant(6, LATER, KEY, not_before=NOW + 60)) == "from-the-future"


def test_rejects_a_grant_that_begins_never() -> None:
    assert refusal(create_grant(6, LATER, KEY, not_before=math.nan)) == "from-the-future"


@pytest.mark.parametrize("never", [math.inf, -math.inf, math.nan])
def test_rejects_a_grant_that_never_ends(never: float) -> None:
    assert refusal(create_grant(6, never, KEY)) == "malformed"


def test_rejects_a_grant_for_a_lifetime() -> None:
    assert refusal(create_grant(6, NOW + LONGEST_S + 1, KEY)) == "too-long"


def test_rejects_an_altered_grant() -> None:
    grant = create_grant(6, LATER, KEY, role="user")
    assert refusal(grant.replace(b'"user"', b'"administrator"')) == "bad-signature"


def test_rejects_another_kind_of_document() -> None:
    assert refusal(sign_document("policy", 6, LATER, {}, KEY)) == "wrong-kind"


@pytest.mark.parametrize("sequence", [1 << 63, -1])
def test_rejects_a_number_no_counter_can_hold(sequence: int) -> None:
    assert refusal(create_grant(sequence, LATER, KEY)) == "malformed"


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        ({}, "out-of-scope"),
        ({"scope": "communication"}, "wrong-role"),
        ({"role": "administrator"}, "out-of-scope"),
    ],
)
def test_rejects_a_grant_without_role_or_scope(payload: dict[str, Any], code: str) -> None:
    assert refusal(signed(payload)) == code


@pytest.mark.parametrize("begins", [None, "now", True, []])
def test_rejects_a_grant_without_a_beginning(begins: object) -> None:
    payload = {"role": "administrator", "scope": "communication", "not_before": begins}
    assert refusal(signed(payload)) == "malformed"


@pytest.mark.parametrize("garbage", [b"", b"nonsense", b"[]", b"{}", b"\xff", b"[" * 100_000])
def test_rejects_what_is_no_grant(garbage: bytes) -> None:
    assert refusal(garbage) == "malformed"


@pytest.mark.parametrize(
    ("wall", "boot", "state"),
    [
        (0, 0, VALID),
        (100, 100, VALID),
        (101, 101, EXPIRED),
        (-5000, 50, VALID),
        (-5000, 101, EXPIRED),  # set back: the steady clock goes on
        (5000, 1, EXPIRED),  # set forward: who knows which is right
    ],
)
def test_either_clock_ends_a_grant(wall: float, boot: float, state: AuthorityState) -> None:
    one = gate()
    one.hold(NOW + 100, Moment(NOW, 10.0))
    assert one.state(Moment(NOW + wall, 10.0 + boot)) is state
