"""Peers that are out come back: by themselves when nobody saw them die, by an operator's hand where that is asked for."""

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace

import pytest

from tests.lab.conftest import RunningLab, running
from vmhost.lab.defaults import default_spec
from vmhost.lab.provisioning import LabPaths
from vmhost.monitor.client import ask
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]
RETURN_S = 4.0


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """A lab in which a machine has little time to come back."""
    with running(replace(default_spec(Lab(f"tb{os.getpid()}")), return_within_s=RETURN_S)) as one:
        yield one


def test_a_peer_that_dies_together_with_the_gateway_is_restarted(lab: RunningLab) -> None:
    """The next gateway has never heard it, and it has no process that would run."""
    agent, gateway = lab.agent_pid("web"), ask(lab.lab, "status")["gateway"]
    assert agent is not None
    since = lab.last_sequence()
    for pid in (agent, gateway["pids"]["quotegated"]):
        os.kill(pid, signal.SIGKILL)
    lab.until(lambda: ask(lab.lab, "status")["gateway"]["starts"] > gateway["starts"])
    lab.until(lab.all_trusted, 40)
    assert lab.agent_pid("web") not in (None, agent)
    (event,) = [one for one in lab.events(since, "peer-remedied") if one["unmapped"]["peer"] == "web"]
    assert event["unmapped"]["reason"].endswith("after the gateway's start")


def test_a_changed_firmware_is_quarantined_at_once_and_agreed_to_by_forgetting_the_peer(
    lab: RunningLab,
) -> None:
    """As after a newer libtpms on the host: what was pinned is another version."""
    state = LabPaths(lab.lab).gateway_state / "state.db"
    with closing(sqlite3.connect(state, timeout=10, isolation_level=None)) as database:
        changed = database.execute("UPDATE firmware SET version = 'abc' WHERE peer = 'web'").rowcount
    assert changed == 1
    since, gateway = lab.last_sequence(), ask(lab.lab, "status")["gateway"]
    os.kill(gateway["pids"]["quotegated"], signal.SIGKILL)  # what it verified last it knows by heart
    lab.until(lambda: lab.peer("web")["state"] == "quarantined")
    assert [reason for _, reason, blamed in lab.failures(since) if blamed] == ["firmware-changed"]
    lab.cli("peer", "forget", "web")
    lab.cli("peer", "release", "web")
    lab.until(lab.all_trusted)
    lab.cli("peer", "restart", "web")  # and that is what is pinned from now on
    lab.until(lab.all_trusted)
