"""Asking a monitor that does not answer: what is advised fits what is there."""

import os
import socket
from collections.abc import Iterator

import pytest

from vmhost.errors import HostError
from vmhost.lab.teardown import remove_tree
from vmhost.monitor.client import ask
from vmhost.names import Lab


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab that left the state of virtual machines."""
    one = Lab(f"tmc{os.getpid()}")
    one.run_dir.mkdir(parents=True)
    one.kept_dir.mkdir(parents=True)
    yield one
    remove_tree(one.run_dir)
    remove_tree(one.state_dir)


def said(lab: Lab) -> str:
    with pytest.raises(HostError) as raised:
        ask(lab, "status", 0.2)
    assert raised.value.code == "away"
    return raised.value.message


def test_names_the_way_back_where_no_monitor_is(lab: Lab) -> None:
    assert f"quotegate lab resume --lab {lab.name}" in said(lab)
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(lab.monitor_socket))
    assert f"quotegate lab resume --lab {lab.name}" in said(lab)
    lab.kept_dir.rmdir()
    assert f"quotegate lab up --lab {lab.name}" in said(lab)


def test_rejects_sending_anybody_to_start_what_is_only_busy(lab: Lab) -> None:
    with socket.socket(socket.AF_UNIX) as busy:
        busy.bind(str(lab.monitor_socket))
        busy.listen()
        assert "quotegate lab" not in said(lab)
        assert str(lab.monitor_log) in said(lab)
