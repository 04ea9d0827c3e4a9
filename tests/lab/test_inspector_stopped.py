"""Inspectors that are stopped from outside: nothing passes meanwhile; a short stop does no harm, after a long one they are replaced."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.cli.demo.capture import Capture
from gateway.inspection.heartbeats import SILENT_S
from tests.lab.conftest import RunningLab, running
from tests.lab.inspected import ECHO, client
from vmhost.lab.defaults import default_spec
from vmhost.monitor.client import ask
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(180)]
PORT, MANY = 8080, 24
BACK_WITHIN_S = SILENT_S + 15
SHORT_S = 4.0
# many connections that stay; for a line `ask` on standard input each asks something; a second later its state is told
CLIENTS = f"""
import selectors, socket, sys, time
QUESTION = b"question " * 30
chosen = selectors.DefaultSelector()
some = [socket.create_connection((sys.argv[1], {PORT}), 10) for _ in range({MANY})]
missing, state = [0] * {MANY}, ["open"] * {MANY}
for number, one in enumerate(some):
    one.setblocking(False)
    chosen.register(one, selectors.EVENT_READ, number)
def end(number, how):
    state[number] = how
    chosen.unregister(some[number])
def read(number):
    try:
        got = some[number].recv(65536)
        missing[number] -= len(got)
        if not got:
            end(number, "closed")
    except ConnectionResetError:
        end(number, "reset")
def count():
    states = [how if how != "open" else "waiting" if missing[at] else "answered" for at, how in enumerate(state)]
    return " ".join(str(states.count(how)) for how in ("answered", "waiting", "reset", "closed"))
print("up", flush=True)
for line in sys.stdin:
    for number, one in enumerate(some):
        if state[number] == "open" and line == "ask\\n":
            try:
                missing[number] += one.send(QUESTION)
            except OSError:
                end(number, "reset")
    until = time.monotonic() + 1
    while (left := until - time.monotonic()) > 0:
        for key, _ in chosen.select(left):
            read(key.data)
    print(count(), flush=True)
"""


@dataclass(frozen=True)
class Told:
    """Of how many connections all came back, an answer is missing, the end was a reset or an orderly one."""

    answered: int
    waiting: int
    reset: int
    closed: int


class Clients:
    """Connections from web to db that stay."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def ask(self) -> Told:
        """Let each connection that is open ask something."""
        return self._say("ask")

    def look(self) -> Told:
        """Only read."""
        return self._say("look")

    def _say(self, what: str) -> Told:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        return Told(*map(int, self._process.stdout.readline().split()))


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    spec = default_spec(Lab(f"h{os.getpid() % 100000}"))
    inspect = f'service = "tcp/{PORT}"\nlease = "1h"\ninspect = {{ detectors = ["secrets"] }}'
    text = spec.policy_text.replace(f'service = "tcp/{PORT}"', inspect)
    with running(replace(spec, policy_text=text, inspectors=2)) as one:
        one.cli("authority", "grant", "--for", "1h")
        yield one


@contextlib.contextmanager
def started(lab: RunningLab, peer: str, code: str, *words: str) -> Iterator["subprocess.Popen[str]"]:
    argv = ["nsenter", f"--net=/run/netns/{lab.lab.peer_namespace(peer)}", sys.executable, "-c", code, *words]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            assert process.stdout.readline() == "up\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def clients(lab: RunningLab) -> Iterator[Clients]:
    with (
        started(lab, "db", ECHO, str(PORT)),
        started(lab, "web", CLIENTS, str(lab.spec.machine("db").ip)) as process,
    ):
        found = Clients(process)
        assert found.ask() == Told(MANY, 0, 0, 0)
        yield found


def pids(lab: RunningLab) -> dict[str, int]:
    """The inspectors' processes."""
    running_now: dict[str, int] = ask(lab.lab, "status")["gateway"]["pids"]
    return {name: pid for name, pid in running_now.items() if name.startswith("inspector")}


def until_replaced(lab: RunningLab, stopped: set[int], since: int) -> None:
    """Wait until others are there, and check what is on record."""
    lab.until(lambda: len(pids(lab)) == 2 and not stopped & set(pids(lab).values()), BACK_WITHIN_S)
    lab.until(lambda: lab.json("status")["inspectors"] == 2)
    events = [one["unmapped"] for one in lab.events(since, "inspector-silent")]
    assert {(one["pid"], one["reason"]) for one in events} == {(pid, "inspector-down") for pid in stopped}
    assert len(events) == len(stopped)


def test_a_short_stop_does_no_harm(lab: RunningLab, clients: Clients) -> None:
    since, before = lab.last_sequence(), pids(lab)
    os.kill(before["inspector"], signal.SIGSTOP)
    try:
        begun = time.monotonic()
        told = clients.ask()
        assert 0 < told.waiting < MANY
        assert told.answered == MANY - told.waiting
        time.sleep(max(0.0, begun + SHORT_S - time.monotonic()))
    finally:
        os.kill(before["inspector"], signal.SIGCONT)
    assert clients.ask() == Told(MANY, 0, 0, 0)
    time.sleep(SILENT_S)
    assert clients.ask() == Told(MANY, 0, 0, 0)
    assert pids(lab) == before
    assert lab.events(since, "inspector-silent") == []


def test_the_connections_of_one_that_is_killed_do_not_end_in_order(lab: RunningLab, clients: Clients) -> None:
    """An orderly end would make half a message look whole."""
    os.kill(pids(lab)["inspector"], signal.SIGKILL)
    told = clients.look()
    assert 0 < told.reset < MANY
    assert told == Told(MANY - told.reset, 0, told.reset, 0)
    lab.until(lambda: lab.json("status")["inspectors"] == 2)


def test_one_that_is_stopped_is_replaced_and_the_others_connections_live(
    lab: RunningLab, clients: Clients
) -> None:
    since, before = lab.last_sequence(), pids(lab)
    os.kill(before["inspector-1"], signal.SIGSTOP)
    told = clients.ask()
    assert 0 < told.waiting < MANY
    until_replaced(lab, {before["inspector-1"]}, since)
    assert clients.ask() == Told(told.answered, 0, told.waiting, 0)
    assert pids(lab)["inspector"] == before["inspector"]
    for _ in range(6):
        assert client(lab, PORT, b"\0hello") == (b"\0hello", "closed")


def test_while_all_are_stopped_nothing_passes_and_then_it_does_again(
    lab: RunningLab, clients: Clients, tmp_path: Path
) -> None:
    since, before = lab.last_sequence(), pids(lab)
    for pid in before.values():
        os.kill(pid, signal.SIGSTOP)
    stopped_at = time.monotonic()
    time.sleep(0.3)  # what was on its way is there
    expression = f"tcp dst port {PORT} and (tcp[tcpflags] & tcp-syn != 0 or greater 150)"
    capture = Capture.start(lab.lab.peer_namespace("db"), expression, tmp_path)
    assert clients.ask() == Told(0, MANY, 0, 0)
    attempt = f"import socket; print('up', flush=True); socket.create_connection(('{lab.spec.machine('db').ip}', {PORT}), 60)"
    with started(lab, "web", attempt):
        time.sleep(max(0.0, stopped_at + SILENT_S - 3 - time.monotonic()))
        assert capture.stop() == []
    assert lab.json("status")["drops"]["inspector-down"] >= 1
    until_replaced(lab, set(before.values()), since)
    assert clients.ask() == Told(0, 0, MANY, 0)
    for _ in range(6):
        assert client(lab, PORT, b"\0hello") == (b"\0hello", "closed")
