"""A planned restart of the inspector under traffic: no connection, no datagram and no byte is lost, nothing goes unseen."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.conftest import RunningLab, running
from tests.lab.inspected import client, found, token
from vmhost.lab.defaults import default_spec
from vmhost.monitor.client import ask
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(180)]
PORT, UDP_PORT = 8080, 5353
RULE = f"""
[[rule]]
id = "web-to-db-datagrams"
from = "web"
to = "db"
service = "udp/{UDP_PORT}"
action = "allow"
open = "on-demand"
lease = "1h"
inspect = {{ detectors = ["secrets"] }}
"""
SERVERS = f"""
import socket, threading
def stream():
    server = socket.create_server(("0.0.0.0", {PORT}), backlog=512)
    def one(c):
        with c:
            try:
                while data := c.recv(65536):
                    c.sendall(data)
            except OSError:
                pass
    while True:
        threading.Thread(target=one, args=(server.accept()[0],), daemon=True).start()
threading.Thread(target=stream, daemon=True).start()
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", {UDP_PORT}))
print("up", flush=True)
while True:
    data, who = s.recvfrom(2000)
    s.sendto(data, who)
"""
# one connection that lives, one after the other that is short, and datagrams; each answer is waited for
CLIENTS = f"""
import socket, sys, threading, time
ip, over = sys.argv[1], threading.Event()
count, failed = dict(long=0, short=0, datagram=0), []
def attempt(what, ask):
    try:
        if ask(b"question %d of %s" % (count[what], what.encode())):
            count[what] += 1
        else:
            failed.append(what + ": another answer")
    except OSError as error:
        failed.append(what + ": " + repr(error))
        time.sleep(0.1)
def loop(what, ask, pause):
    while not over.is_set():
        attempt(what, ask)
        time.sleep(pause)
living = socket.create_connection((ip, {PORT}), 5)
def on_living(data):
    living.sendall(data)
    return living.recv(1000) == data
def on_short(data):
    with socket.create_connection((ip, {PORT}), 3) as one:
        one.sendall(data)
        return one.recv(1000) == data
datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
datagrams.connect((ip, {UDP_PORT}))
datagrams.settimeout(2)
def on_datagram(data):
    datagrams.send(data)
    return datagrams.recv(1000) == data
threads = [threading.Thread(target=loop, args=one) for one in (
    ("long", on_living, 0.01), ("short", on_short, 0.003), ("datagram", on_datagram, 0.003))]
for one in threads:
    one.start()
print("running", flush=True)
sys.stdin.readline()
over.set()
for one in threads:
    one.join()
print(count["long"], count["short"], count["datagram"], failed, flush=True)
sys.stdin.readline()
living.close()
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    spec = default_spec(Lab(f"r{os.getpid() % 100000}"))
    inspect = f'service = "tcp/{PORT}"\nlease = "1h"\ninspect = {{ detectors = ["secrets", "malware"] }}'
    text = spec.policy_text.replace(f'service = "tcp/{PORT}"', inspect) + RULE
    with running(replace(spec, policy_text=text)) as one:
        one.cli("authority", "grant", "--for", "1h")
        yield one


@contextlib.contextmanager
def started(argv: list[str]) -> Iterator["subprocess.Popen[str]"]:
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()  # else a failure would wait for it


def inspector(lab: RunningLab) -> int:
    return int(ask(lab.lab, "status")["gateway"]["pids"]["inspector"])


def lives(pid: int) -> bool:
    """Tell whether a process runs; one that ended and was not asked after yet does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_nothing_is_lost_and_the_former_ends_with_its_last_connection(lab: RunningLab) -> None:
    argv = [
        ["nsenter", f"--net=/run/netns/{lab.lab.peer_namespace(one)}", sys.executable, "-c"]
        for one in ("web", "db")
    ]
    with started([*argv[1], SERVERS]) as servers:
        assert servers.stdout
        servers.stdout.readline()
        target = str(lab.spec.machine("db").ip)
        with started([*argv[0], CLIENTS, target]) as clients:
            assert clients.stdin
            assert clients.stdout
            assert clients.stdout.readline() == "running\n"
            time.sleep(0.5)
            first = inspector(lab)
            lab.cli("lab", "replace-inspector")
            lab.until(lambda: lab.json("status")["inspectors"] == 2)
            time.sleep(1.5)
            clients.stdin.write("enough\n")
            clients.stdin.flush()
            *counts, failed = clients.stdout.readline().split(maxsplit=3)
            assert failed.strip() == "[]", lab.json("status")["drops"]
            assert all(int(one) > 50 for one in counts), counts
            second = inspector(lab)
            assert second != first
            assert lives(first)  # as its connection does
            since, secret = lab.last_sequence(), token()
            assert client(lab, PORT, b"with " + secret + b" inside")[1] == "reset"
            assert found(lab, since) == ["secrets.github-token"]
            clients.stdin.write("done\n")
            clients.stdin.flush()
        lab.until(lambda: not lives(first))
        lab.until(lambda: lab.json("status")["inspectors"] == 1)
        assert inspector(lab) == second
        assert ask(lab.lab, "status")["gateway"]["starts"] == 1
