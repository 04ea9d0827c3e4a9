"""Waiting for a monitor that fails: why it failed is told, also when it clears everything away."""

import os
import subprocess
from collections.abc import Iterator

import pytest

from vmhost.errors import HostError
from vmhost.lab.setup import _wait_ready
from vmhost.lab.teardown import remove_tree
from vmhost.names import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    one = Lab(f"ts{os.getpid()}")
    (one.run_dir / "log").mkdir(parents=True)
    yield one
    remove_tree(one.run_dir)


def monitor(script: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(["sh", "-c", script])


def test_a_lab_is_up_once_its_monitor_says_so(lab: Lab) -> None:
    process = monitor(f"sleep 0.2; touch {lab.run_dir}/ready; exec sleep 5")
    _wait_ready(lab, process, 4)
    process.kill()
    process.wait()


def test_why_it_failed_is_told_though_it_clears_everything_away(lab: Lab) -> None:
    (lab.run_dir / "log" / "monitor.log").write_text("VM web is failed")
    process = monitor(f"printf 'no image' >{lab.run_dir}/failed; sleep 0.3; rm -r {lab.run_dir}")
    with pytest.raises(HostError) as failed:
        _wait_ready(lab, process, 10)
    assert failed.value.message.startswith("no image\n--- log/monitor.log\nVM web is failed")


def test_a_monitor_that_ends_without_a_word_is_told(lab: Lab) -> None:
    with pytest.raises(HostError, match="ended with status 3"):
        _wait_ready(lab, monitor("exit 3"), 10)


def test_a_monitor_that_takes_too_long_is_told(lab: Lab) -> None:
    process = monitor("exec sleep 5")
    with pytest.raises(HostError, match="not up within 0 s"):
        _wait_ready(lab, process, 0.3)
    process.kill()
    process.wait()
