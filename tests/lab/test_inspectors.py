"""Several inspectors side by side: connections are spread, each inspects, and one that dies costs its own alone."""

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.lab.conftest import RunningLab, running
from tests.lab.inspected import ECHO, Service, client, found, token
from vmhost.lab.defaults import default_spec
from vmhost.monitor.client import ask
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(180)]
PORT, MANY = 8080, 24
# many connections that stay; for each line on standard input, how many of them still answer
CLIENTS = f"""
import socket, sys
some = []
for number in range({MANY}):
    one = socket.create_connection((sys.argv[1], {PORT}), 10)
    one.settimeout(5)
    some.append(one)
def answers(one):
    try:
        one.sendall(b"question")
        return one.recv(100) == b"question"
    except OSError:
        return False
print(sum(map(answers, some)), flush=True)
for line in sys.stdin:
    print(sum(map(answers, some)), flush=True)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    spec = default_spec(Lab(f"n{os.getpid() % 100000}"))
    inspect = f'service = "tcp/{PORT}"\nlease = "1h"\ninspect = {{ detectors = ["secrets"] }}'
    text = spec.policy_text.replace(f'service = "tcp/{PORT}"', inspect)
    with running(replace(spec, policy_text=text, inspectors=3)) as one:
        one.cli("authority", "grant", "--for", "1h")
        yield one


@contextlib.contextmanager
def start(lab: RunningLab, peer: str, code: str, *words: str) -> Iterator["subprocess.Popen[str]"]:
    argv = ["nsenter", f"--net=/run/netns/{lab.lab.peer_namespace(peer)}", sys.executable, "-c", code, *words]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout
    return process.stdout.readline().strip()


def pids(lab: RunningLab) -> dict[str, int]:
    """The inspectors' processes."""
    running_now: dict[str, int] = ask(lab.lab, "status")["gateway"]["pids"]
    return {name: pid for name, pid in running_now.items() if name.startswith("inspector")}


def test_one_that_dies_costs_its_own_connections_alone(lab: RunningLab) -> None:
    assert set(pids(lab)) == {"inspector", "inspector-1", "inspector-2"}
    lab.until(lab.all_trusted)  # three inspectors that start leave little to the others
    with (
        start(lab, "db", ECHO, str(PORT)) as server,
        start(lab, "web", CLIENTS, str(lab.spec.machine("db").ip)) as clients,
    ):
        assert clients.stdin
        assert said(server) == "up"
        assert said(clients) == str(MANY)
        left = MANY
        for name in ("inspector-1", "inspector"):
            os.kill(pids(lab)[name], signal.SIGKILL)
            # at once, while it is away: the others take what is new
            assert client(lab, PORT, b"\0hello")[0] == b"\0hello"
            clients.stdin.write("\n")
            clients.stdin.flush()
            before, left = left, int(said(clients))
            assert 0 < left < before
            lab.until(lambda: lab.json("status")["inspectors"] == 3)


def test_each_inspects_and_all_take_a_planned_restart(lab: RunningLab) -> None:
    server = Service(lab, PORT)(b"")
    try:
        since, former = lab.last_sequence(), set(pids(lab).values())
        for _ in range(12):
            assert client(lab, PORT, b"\0" + token() + b"\n")[1] == "reset"
        lab.until(lambda: len(found(lab, since)) == 12)
        ask(lab.lab, "replace_inspector")
        lab.until(lambda: not former & set(pids(lab).values()) and lab.json("status")["inspectors"] == 3)
        for _ in range(6):
            assert client(lab, PORT, b"\0" + token() + b"\n")[1] == "reset"
    finally:
        server.kill()
        server.wait(5)
