"""Connections given back to the kernel behind their rule's depth: nothing is lost, nothing more is allowed, and no inspector is needed."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from filters.ruleset.names import HANDED_BIT
from gateway.cli.demo.capture import Capture
from tests.lab.conftest import RunningLab, running
from tests.lab.inspected import ECHO
from vmhost.lab.defaults import default_spec
from vmhost.monitor.client import ask
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(180)]
PORT = 9091
RULE = f"""
[[rule]]
id = "web-to-db-offloaded"
from = "web"
to = "db"
service = "tcp/{PORT}"
action = "allow"
open = "on-demand"
lease = "1h"
inspect = {{ detectors = ["secrets"], offload_after = "64KiB" }}
"""
# Connections at once; for each line "BYTES" on standard input each sends so many random bytes and reads them back.
CLIENTS = f"""
import os, socket, sys, threading
some = [socket.create_connection((sys.argv[1], {PORT}), 10) for _ in range(int(sys.argv[2]))]
print("open", flush=True)
def exchange(one, count, good):
    sent, got = b"\\0" + os.urandom(count - 1), bytearray()
    writer = threading.Thread(target=lambda: one.sendall(sent))
    try:
        one.settimeout(10)
        writer.start()
        while len(got) < count:
            data = one.recv(1 << 18)
            if not data: break
            got += data
        writer.join()
        good.append(bytes(got) == sent)
    except OSError:
        good.append(False)
for line in sys.stdin:
    if line == "urgent\\n":
        for one in some: one.send(b"!", socket.MSG_OOB)
        continue
    good = []
    threads = [threading.Thread(target=exchange, args=(one, int(line), good)) for one in some]
    for one in threads: one.start()
    for one in threads: one.join()
    print(sum(good), flush=True)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    spec = default_spec(Lab(f"h{os.getpid() % 100000}"))
    with running(replace(spec, policy_text=spec.policy_text + RULE)) as one:
        one.cli("authority", "grant", "--for", "1h")
        one.until(lambda: one.json("status")["inspectors"] == 1)
        yield one


@pytest.fixture
def echo(lab: RunningLab) -> Iterator[None]:
    argv = [
        "nsenter",
        f"--net=/run/netns/{lab.lab.peer_namespace('db')}",
        sys.executable,
        "-c",
        ECHO,
        str(PORT),
    ]
    server = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert server.stdout
    server.stdout.readline()
    yield
    server.kill()
    server.wait(5)


class Clients:
    """Connections that stay open."""

    def __init__(self, lab: RunningLab, count: int = 1) -> None:
        argv = ["nsenter", f"--net=/run/netns/{lab.lab.peer_namespace('web')}", sys.executable, "-c", CLIENTS]
        argv += [str(lab.spec.machine("db").ip), str(count)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert self._line() == b"open"

    def exchange(self, count: int) -> int:
        """Return how many connections carried so many bytes there and back unharmed."""
        assert self.process.stdin
        self.process.stdin.write(b"%d\n" % count)
        self.process.stdin.flush()
        return int(self._line())

    def send_urgent(self) -> None:
        """Send a byte out of band on each."""
        assert self.process.stdin
        self.process.stdin.write(b"urgent\n")
        self.process.stdin.flush()

    def close(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=10)

    def _line(self) -> bytes:
        assert self.process.stdout
        return self.process.stdout.readline().strip()


def handed(lab: RunningLab) -> int:
    """Count the established connections that their inspector gave back, as conntrack knows them."""
    argv = ["nsenter", f"--net=/run/netns/{lab.lab.gateway_namespace}", "cat", "/proc/net/nf_conntrack"]
    listed = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()
    marks = [
        int(word.removeprefix("mark="))
        for line in listed
        if " ESTABLISHED " in line
        for word in line.split()
        if word.startswith("mark=")
    ]
    return sum(bool(mark & HANDED_BIT) for mark in marks)


def _inspector(lab: RunningLab) -> int:
    return int(ask(lab.lab, "status")["gateway"]["pids"].get("inspector", 0))


@pytest.fixture
def clients(lab: RunningLab, echo: None) -> Iterator[Clients]:
    one = Clients(lab)
    yield one
    one.close()
    lab.until(lambda: handed(lab) == 0)


def test_connections_are_handed_over_in_full_flow_and_lose_nothing(lab: RunningLab, echo: None) -> None:
    many = Clients(lab, 12)
    try:
        for _ in range(3):
            assert many.exchange(2 << 20) == 12
        lab.until(lambda: handed(lab) == 12)  # one that was busy every time is tried again
        assert many.exchange(1 << 20) == 12
        sockets = [
            one for one in Path(f"/proc/{_inspector(lab)}/fd").iterdir() if "socket" in str(one.readlink())
        ]
        assert len(sockets) < 40  # the 24 legs are gone; what is left it has anyway
    finally:
        many.close()


def test_up_to_the_depth_nothing_is_handed_over(lab: RunningLab, clients: Clients) -> None:
    assert clients.exchange(16 << 10) == 1
    time.sleep(0.5)
    assert handed(lab) == 0


def test_rejects_urgent_data_of_a_connection_that_was_handed_over(lab: RunningLab, clients: Clients) -> None:
    assert clients.exchange(256 << 10) == 1
    lab.until(lambda: handed(lab) == 1)
    before = lab.json("status")["drops"].get("parse-error", 0)
    clients.send_urgent()
    lab.until(lambda: lab.json("status")["drops"].get("parse-error", 0) > before)


def test_it_outlives_its_inspector(lab: RunningLab, clients: Clients) -> None:
    assert clients.exchange(256 << 10) == 1
    lab.until(lambda: handed(lab) == 1)
    os.kill(before := _inspector(lab), signal.SIGKILL)
    assert clients.exchange(1 << 20) == 1
    lab.until(lambda: _inspector(lab) not in {0, before} and lab.json("status")["inspectors"] == 1)


def test_after_a_cut_nothing_of_it_leaves(lab: RunningLab, clients: Clients, tmp_path: Path) -> None:
    assert clients.exchange(256 << 10) == 1
    lab.until(lambda: handed(lab) == 1)
    lab.cli("peer", "quarantine", "web")
    try:
        capture = Capture.start(lab.lab.peer_namespace("db"), f"tcp dst port {PORT}", tmp_path)
        assert clients.exchange(1000) == 0
        assert capture.stop() == []
    finally:
        lab.cli("peer", "release", "web")
    lab.until(lambda: lab.peer("web")["state"] == "trusted")


def test_another_policy_that_inspects_otherwise_ends_it(
    lab: RunningLab, clients: Clients, tmp_path: Path
) -> None:
    assert clients.exchange(256 << 10) == 1
    lab.until(lambda: handed(lab) == 1)
    before = lab.spec.policy_text
    for number, words in enumerate(('"secrets", "malware"', '"secrets"')):
        file = tmp_path / f"{number}.toml"
        file.write_text(before.replace('detectors = ["secrets"], off', f"detectors = [{words}], off"))
        lab.cli("policy", "apply", str(file))
        assert clients.exchange(1000) == 0


@contextlib.contextmanager
def setting(lab: RunningLab, name: str, value: str) -> Iterator[None]:
    """Change a setting of web's kernel for a while."""
    enter = ["nsenter", f"--net=/run/netns/{lab.lab.peer_namespace('web')}", "sysctl", "-n"]
    before = subprocess.run([*enter, name], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run([*enter, "-qw", f"{name}={value}"], check=True)
    try:
        yield
    finally:
        subprocess.run([*enter, "-qw", f"{name}={before}"], check=True)


def test_a_client_with_another_window_scale_is_matched(lab: RunningLab, echo: None) -> None:
    with setting(lab, "net.ipv4.tcp_rmem", "4096 131072 2097152"):
        one = Clients(lab)
        assert one.exchange(1 << 20) == 1
        lab.until(lambda: handed(lab) == 1)
        assert one.exchange(4 << 20) == 1
        one.close()


def test_a_client_without_window_scaling_stays_with_its_inspector(lab: RunningLab, echo: None) -> None:
    with setting(lab, "net.ipv4.tcp_window_scaling", "0"):
        one = Clients(lab)
        assert one.exchange(1 << 20) == 1
        time.sleep(0.5)
        assert handed(lab) == 0
        assert one.exchange(1 << 20) == 1
        one.close()
