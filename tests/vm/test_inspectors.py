"""A gateway's VM with two inspectors: both are there, one that is stopped is replaced by systemd, all by a planned restart."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.vm.conftest import VmLab, running_vms
from vmhost.monitor.client import ask
from vmhost.names import GATEWAY

pytestmark = [pytest.mark.vm, pytest.mark.timeout(1200)]
# of that 20 s until systemd ends it; the rest is Python's start on an emulated processor
BACK_WITHIN_S = 240.0


@pytest.fixture(scope="module")
def two() -> Iterator[VmLab]:
    with running_vms(f"w{os.getpid()}", lambda spec: replace(spec, inspectors=2)) as one:
        one.until(lambda: one.json("status")["inspectors"] == 2, BACK_WITHIN_S)
        yield one


def pids(lab: VmLab) -> dict[str, int]:
    """The inspectors' units that are active, and their processes."""
    said = lab.inside(GATEWAY, "systemctl show -p Id -p MainPID 'inspector*.service'")
    units = [dict(line.split("=", 1) for line in one.splitlines() if line) for one in said.split("\n\n")]
    return {one["Id"]: int(one["MainPID"]) for one in units if one and int(one["MainPID"])}


def test_as_many_as_the_settings_say_and_each_has_its_number(two: VmLab) -> None:
    found = pids(two)
    assert set(found) == {"inspector.service", "inspector@1.service"}
    assert "--number 1" in two.inside(GATEWAY, f"tr '\\0' ' ' </proc/{found['inspector@1.service']}/cmdline")
    assert two.inside(GATEWAY, "nproc").strip() == "3"


@pytest.mark.parametrize("unit", ["inspector.service", "inspector@1.service"])
def test_one_that_is_stopped_is_recorded_and_replaced_by_systemd(two: VmLab, unit: str) -> None:
    since, before = two.last_sequence(), pids(two)
    two.inside(GATEWAY, f"kill -STOP {before[unit]}")
    two.until(lambda: two.events(since, "inspector-silent"), 30)
    two.until(lambda: pids(two).get(unit, before[unit]) != before[unit], BACK_WITHIN_S)
    two.until(lambda: two.json("status")["inspectors"] == 2, BACK_WITHIN_S)
    after = pids(two)
    assert {**after, unit: 0} == {**before, unit: 0}
    (event,) = two.events(since, "inspector-silent")
    assert (event["unmapped"]["pid"], event["unmapped"]["reason"]) == (before[unit], "inspector-down")


def test_a_planned_restart_replaces_both(two: VmLab) -> None:
    before = set(pids(two).values())
    ask(two.lab, "replace_inspector")
    two.until(lambda: not before & set(pids(two).values()) and len(pids(two)) == 2, BACK_WITHIN_S)
    two.until(lambda: two.json("status")["inspectors"] == 2, BACK_WITHIN_S)
    time.sleep(2)
    assert two.json("status")["inspectors"] == 2
