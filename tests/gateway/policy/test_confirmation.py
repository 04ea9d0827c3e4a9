"""A policy on probation, as dialogues."""

import pytest

from gateway.errors import GatewayError
from gateway.policy.confirmation import Confirmation, Pending


def refused(code: str) -> "pytest.RaisesExc[GatewayError]":
    return pytest.raises(GatewayError, check=lambda error: error.code == code)


@pytest.fixture
def waiting() -> Confirmation:
    one = Confirmation()
    one.begin(7, 160.0)
    return one


def test_a_confirmed_policy_stays(waiting: Confirmation) -> None:
    waiting.check_waits(159.9)
    waiting.end()
    assert waiting.take_due(1000.0) is None


def test_an_unconfirmed_policy_goes_once(waiting: Confirmation) -> None:
    assert waiting.take_due(159.9) is None
    assert waiting.take_due(160.0) == 7
    assert waiting.take_due(161.0) is None


def test_rejects_a_word_that_comes_too_late(waiting: Confirmation) -> None:
    with refused("nothing-to-confirm"):
        waiting.check_waits(160.0)
    assert waiting.pending == Pending(7, 160.0)


def test_rejects_a_second_word(waiting: Confirmation) -> None:
    waiting.end()
    with refused("nothing-to-confirm"):
        waiting.check_waits(102.0)


def test_rejects_another_change_meanwhile(waiting: Confirmation) -> None:
    with refused("confirmation-pending") as caught:
        waiting.check_free(150.0)
    assert "10 s more" in caught.value.message
    waiting.end()
    waiting.check_free(150.0)


@pytest.mark.parametrize("seconds", [0, -1, 0.5, 3601, float("inf"), float("nan"), 10**400, -(10**400)])
def test_rejects_a_time_nobody_can_keep(seconds: float) -> None:
    with refused("bad-duration"):
        Confirmation.check_within(seconds)
