"""The demonstration with virtual machines, interrupted: nothing of it is left."""

import random
import signal
import subprocess
import time

import pytest

from tests.lab.conftest import QUOTEGATE
from tests.lab.test_life import wait_clean
from vmhost.names import Lab

pytestmark = [pytest.mark.vm, pytest.mark.timeout(300)]


@pytest.mark.parametrize("after_s", [(1.0, 10.0), (40.0, 90.0)])
def test_an_interrupted_demonstration_leaves_nothing(after_s: tuple[float, float]) -> None:
    # a shell starts background jobs with SIGINT ignored, and children inherit that
    signal.signal(signal.SIGINT, signal.default_int_handler)
    demo = subprocess.Popen(
        [QUOTEGATE, "lab", "demo", "--vm"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    time.sleep(random.uniform(*after_s))
    assert demo.poll() is None
    demo.send_signal(signal.SIGINT)
    assert demo.wait(60) == 130
    wait_clean(Lab(f"demo{demo.pid % 100000}"))
