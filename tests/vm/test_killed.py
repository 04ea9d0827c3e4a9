"""A monitor of virtual machines killed at random instants of their start: `lab down` leaves nothing of them."""

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from tests.vm.conftest import IMAGES
from tests.vmhost.lab.test_killed import leftovers, monitor_of
from vmhost.lab.setup import PROJECT
from vmhost.lab.teardown import tear_down
from vmhost.names import Lab

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]
OWNER = """
import sys
from pathlib import Path
from vmhost.lab.defaults import vm_spec
from vmhost.lab.setup import bring_up
from vmhost.names import Lab
bring_up(vm_spec(Lab(sys.argv[1]), Path(sys.argv[2])))
"""
STARTED_WITHIN_S, INSTANTS = 8.0, 4


def test_a_monitor_of_vms_killed_at_any_instant_leaves_nothing_after_down() -> None:
    lab = Lab(f"vk{os.getpid()}")
    for instant in sorted(
        random.Random(time.time_ns()).uniform(0.5, STARTED_WITHIN_S) for _ in range(INSTANTS)
    ):
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, lab.name, str(IMAGES)], cwd=PROJECT, stderr=subprocess.DEVNULL
        )
        try:
            while (monitor := monitor_of(lab)) is None:
                assert owner.poll() is None
                time.sleep(0.01)
            time.sleep(instant)
            left = leftovers(lab)
            os.kill(monitor, signal.SIGKILL)
            assert owner.wait(30) != 0  # it takes down what it brought up
            assert leftovers(lab) == []
            print(f"killed after {instant:.3f} s, when there were {len(left)} things")
        finally:
            owner.kill()
            owner.wait(5)
            tear_down(lab)
            assert leftovers(lab) == []
