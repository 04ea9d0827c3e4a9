"""A guest whose agent is not heard: dialogues with what decides about it."""

import pytest

from vmhost.monitor.newcomer import Newcomer, Step


@pytest.fixture
def guest() -> Newcomer:
    return Newcomer(patience_s=10.0, restarts=2)


def test_one_that_a_gateway_knows_is_left_alone_for_good(guest: Newcomer) -> None:
    guest.started(0.0)
    assert guest.tick(9.9) is None
    guest.heard(9.9, known=True)
    assert guest.tick(20.0) is None
    guest.started(30.0)  # the gateway restarts it when it hangs
    guest.heard(31.0, known=False)
    assert guest.tick(99.0) is None


def test_one_that_says_every_minute_that_it_runs_waits_for_its_approval(guest: Newcomer) -> None:
    guest.started(0.0)
    for now in range(5, 100, 5):
        guest.heard(float(now), known=False)
        assert guest.tick(now + 4.9) is None


def test_one_that_spoke_and_hangs_before_a_gateway_knows_it_is_restarted(guest: Newcomer) -> None:
    guest.started(0.0)
    guest.heard(8.0, known=False)
    assert guest.tick(17.9) is None
    assert guest.tick(18.0) is Step.RESTART


def test_one_that_hangs_is_restarted_a_few_times_then_switched_off(guest: Newcomer) -> None:
    orders = []
    for number in range(4):
        guest.started(100.0 * number)
        orders.append(guest.tick(100.0 * number + 10.0))
    assert orders[:3] == [Step.RESTART, Step.RESTART, Step.SWITCH_OFF]


def test_each_order_is_given_once(guest: Newcomer) -> None:
    guest.started(0.0)
    assert [guest.tick(t) for t in (10.0, 10.1, 50.0)] == [Step.RESTART, None, None]
    guest.started(60.0)  # by whomever
    assert [guest.tick(t) for t in (69.0, 70.0)] == [None, Step.RESTART]


def test_one_that_is_off_is_not_missed_and_begins_anew(guest: Newcomer) -> None:
    assert guest.tick(1e9) is None
    for _ in range(2):
        guest.started(0.0)
        assert guest.tick(10.0) is Step.RESTART
    guest.off()
    guest.heard(0.0, known=False)  # its last word
    assert guest.tick(1e9) is None
    guest.started(0.0)
    assert guest.tick(10.0) is Step.RESTART


def test_one_that_comes_up_late_is_kept(guest: Newcomer) -> None:
    guest.started(0.0)
    assert guest.tick(10.0) is Step.RESTART
    guest.started(11.0)
    guest.heard(12.0, known=True)
    assert guest.tick(99.0) is None
