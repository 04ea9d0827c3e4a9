"""When the gateway is ended and started again: dialogues with the state machine."""

import pytest

from vmhost.errors import HostError
from vmhost.monitor.budget import Budget
from vmhost.monitor.gateway_unit import End, GatewayUnit, Phase, Probe, Restart

DIED = Restart("a process of the gateway died", False)
SILENT = Restart("the gateway did not answer", False)


@pytest.fixture
def unit() -> GatewayUnit:
    unit = GatewayUnit(Budget(2, 100.0))
    unit.started(0.0)
    return unit


def test_nothing_is_ordered_before_the_first_start() -> None:
    unit = GatewayUnit(Budget(2, 100.0))
    assert [unit.tick(t, alive) for t in (0.0, 50.0) for alive in (True, False)] == [None] * 4
    assert unit.refused("web", "pcr-mismatch", 50.0) is None


def test_a_dead_process_ends_all_and_after_a_pause_all_are_started(unit: GatewayUnit) -> None:
    assert unit.tick(0.5, alive=False) == End()
    assert unit.tick(1.4, alive=False) is None
    assert unit.tick(1.5, alive=False) == DIED
    unit.restarting()
    assert unit.tick(1.6, alive=False) is None
    unit.started(3.0)
    assert unit.tick(3.1, alive=True) is None
    assert unit.tick(4.0, alive=True) == Probe()


def test_a_start_that_failed_is_tried_again_after_a_pause(unit: GatewayUnit) -> None:
    unit.restarting()
    unit.started(1.0)
    assert [unit.tick(t, alive=False) for t in (1.1, 2.0, 2.2)] == [End(), None, DIED]


def test_three_missed_probes_in_a_row_restart_it(unit: GatewayUnit) -> None:
    answers = [False, False, True, False, False]
    for second, healthy in enumerate(answers, 1):
        assert unit.tick(second, alive=True) == Probe()
        assert unit.probed(healthy) is None
    assert unit.tick(6.0, alive=True) == Probe()
    assert unit.probed(healthy=False) == SILENT


def test_probes_are_a_second_apart(unit: GatewayUnit) -> None:
    assert [unit.tick(t / 4, alive=True) for t in range(1, 10)].count(Probe()) == 2


def test_a_slow_restart_is_not_taken_for_silence(unit: GatewayUnit) -> None:
    for second in (1.0, 2.0):
        unit.tick(second, alive=True)
        unit.probed(healthy=False)
    assert unit.tick(3.0, alive=True) == Probe()
    unit.restarting()  # while the probe is out, somebody restarts it
    assert unit.probed(healthy=False) is None
    assert [unit.tick(t, alive=True) for t in (4.0, 5.0, 60.0)] == [None] * 3
    unit.started(61.0)
    assert unit.tick(62.0, alive=True) == Probe()
    assert unit.probed(healthy=False) is None  # misses from before don't count


def test_a_guests_report_resets_the_machine_and_costs_budget(unit: GatewayUnit) -> None:
    for time in (1.0, 2.0):
        assert unit.refused("web", "pcr-mismatch", time) == Restart("web refused it: pcr-mismatch", True)
    with pytest.raises(HostError, match="operator") as refused:
        unit.refused("db", "pcr-mismatch", 3.0)
    assert refused.value.code == "budget-used-up"
    assert unit.refused("db", "pcr-mismatch", 101.5) is not None


def test_reports_during_a_restart_cost_nothing(unit: GatewayUnit) -> None:
    assert unit.refused("web", "pcr-mismatch", 1.0)
    unit.restarting()
    assert [unit.refused(name, "pcr-mismatch", 1.1) for name in ("db", "ops", "db")] == [None] * 3
    unit.started(2.0)
    assert unit.refused("db", "pcr-mismatch", 3.0)


def test_what_the_monitor_sees_itself_costs_no_budget(unit: GatewayUnit) -> None:
    for number in range(10):
        assert unit.tick(10.0 * number, alive=False) == End()
        assert unit.tick(10.0 * number + 1, alive=False) == DIED
        unit.restarting()
        unit.started(10.0 * number + 2)
        assert unit.tick(10.0 * number + 4, alive=True) == Probe()
        assert unit.probed(healthy=True) is None
    assert unit.refused("web", "pcr-mismatch", 99.0)


def test_restarts_that_fail_come_further_and_further_apart(unit: GatewayUnit) -> None:
    now, pauses = 0.0, []
    for _ in range(9):
        assert unit.tick(now, alive=False) == End()
        down = now
        while unit.tick(now, alive=False) is None:
            now += 0.5
        pauses.append(now - down)
        unit.restarting()
        unit.started(now)
    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_a_gateway_that_answered_is_brought_back_at_once(unit: GatewayUnit) -> None:
    for down in (10.0, 20.0):
        assert unit.tick(down, alive=False) == End()
        assert unit.tick(down + 1, alive=False) == DIED
        unit.restarting()
        unit.started(down + 1)
        assert unit.tick(down + 2, alive=True) == Probe()
        unit.probed(healthy=True)


def test_paused_it_is_left_alone_and_a_report_still_counts(unit: GatewayUnit) -> None:
    unit.paused = True
    assert [unit.tick(t, alive=False) for t in (1.0, 9.0)] == [None, None]
    assert unit.probed(healthy=False) is None
    assert unit.refused("web", "pcr-mismatch", 9.0)
    unit.paused = False
    assert [unit.tick(t, alive=False) for t in (10.0, 11.0)] == [End(), DIED]


def test_pausing_during_the_back_off_holds_the_restart(unit: GatewayUnit) -> None:
    assert unit.tick(1.0, alive=False) == End()
    unit.paused = True
    assert unit.tick(5.0, alive=False) is None


def test_a_stopped_unit_is_not_brought_back(unit: GatewayUnit) -> None:
    unit.stop()
    unit.restarting()
    unit.started(1.0)  # a restart that was under way ends now
    assert unit.phase is Phase.STOPPED
    assert unit.tick(9.0, alive=False) is None
    assert unit.refused("web", "pcr-mismatch", 9.0) is None
