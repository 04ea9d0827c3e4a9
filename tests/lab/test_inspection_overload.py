"""Very many inspected connections whose receivers are slow: back-pressure absorbs it, not memory."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.conftest import RunningLab, running
from tests.lab.inspected import Service, client, found
from vmhost.lab.defaults import default_spec
from vmhost.monitor.client import ask
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(300)]
PORT, HELD_PORT, FLOWS = 8080, 9090, 2000
BOUND = 512 << 20  # bytes of an inspector and its judges, with all of that
EACH = 1 << 20  # bytes that each client tries to send
HELD = f"""
[[rule]]
id = "web-to-db-held"
from = "web"
to = "db"
service = "tcp/{HELD_PORT}"
action = "allow"
open = "on-demand"
inspect = {{ hold = "object" }}
"""
# answers each connection with what it received, once told to read: so many bytes, and their sum
SERVER = f"""
import resource, selectors, socket, sys, threading
resource.setrlimit(resource.RLIMIT_NOFILE, (10000, 10000))
server = socket.create_server(("0.0.0.0", {PORT}), backlog=4096)
print("up", flush=True)
taken = []
def accept():
    while True:
        taken.append(server.accept()[0])
threading.Thread(target=accept, daemon=True).start()
sys.stdin.readline()
chosen, count = selectors.DefaultSelector(), 0
for one in taken:
    chosen.register(one, selectors.EVENT_READ)
left, sums = len(taken), 0
while left:
    for key, _ in chosen.select():
        try:
            data = key.fileobj.recv(1 << 18)
        except ConnectionError:
            data = b""
        if not data:
            chosen.unregister(key.fileobj)
            left -= 1
        count += len(data)
        sums += sum(data[:1]) if data else 0
print(count, flush=True)
"""
CLIENT = f"""
import resource, selectors, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (10000, 10000))
data = bytes(range(128, 256)) * ({EACH} // 128)
chosen, sent = selectors.DefaultSelector(), {{}}
for _ in range({FLOWS}):
    one = socket.create_connection((sys.argv[1], {PORT}), 30)
    one.setblocking(False)
    sent[one] = 0
    chosen.register(one, selectors.EVENT_WRITE)
print("open", flush=True)
idle = 0
while sent:
    ready = chosen.select(1)
    idle = 0 if ready else idle + 1
    if idle == 3:
        print("stuck", sum(sent.values()), flush=True)
    for key, _ in ready:
        one = key.fileobj
        sent[one] += one.send(data[sent[one] : sent[one] + 65536])
        if sent[one] == len(data):
            chosen.unregister(one)
            one.close()
            del sent[one]
print("sent", flush=True)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    spec = default_spec(Lab(f"o{os.getpid() % 100000}"))
    inspect = 'lease = "1h"\ninspect = { detectors = ["secrets", "malware"] }'
    text = spec.policy_text.replace(f'service = "tcp/{PORT}"', f'service = "tcp/{PORT}"\n{inspect}') + HELD
    with running(replace(spec, policy_text=text)) as one:
        one.cli("authority", "grant", "--for", "1h")
        yield one


def memory(lab: RunningLab) -> int:
    """Return the proportional share of memory (bytes) of the inspector and all that came from it."""
    total, wanted = 0, {ask(lab.lab, "status")["gateway"]["pids"]["inspector"]}
    for entry in sorted(Path("/proc").glob("[0-9]*"), key=lambda one: int(one.name)):
        try:
            parent = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            if int(entry.name) in wanted or parent in wanted:
                wanted.add(int(entry.name))
                rollup = entry.joinpath("smaps_rollup").read_text()
                total += int(rollup.split("Pss:")[1].split()[0]) << 10
        except (OSError, IndexError):
            continue
    return total


def test_two_thousand_slow_receivers_cost_bounded_memory_and_lose_nothing(lab: RunningLab) -> None:
    idle = memory(lab)
    enter = [["nsenter", f"--net=/run/netns/{lab.lab.peer_namespace(one)}"] for one in ("web", "db")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([*enter[1], sys.executable, "-c", SERVER], **pipes) as server:  # type: ignore[call-overload]
        server.stdout.readline()
        target = str(lab.spec.machine("db").ip)
        with subprocess.Popen([*enter[0], sys.executable, "-c", CLIENT, target], **pipes) as clients:  # type: ignore[call-overload]
            assert clients.stdout.readline() == "open\n"
            words = clients.stdout.readline().split()
            assert words[0] == "stuck"
            worst = memory(lab)
            print(
                f"{FLOWS} flows: {int(words[1]) >> 20} MiB on their way, inspector {idle >> 20} -> {worst >> 20} MiB"
            )
            assert worst < BOUND
            assert lab.all_trusted()
            server.stdin.write("read\n")
            server.stdin.flush()
            while (line := clients.stdout.readline()).startswith("stuck"):
                print(line, end="")
            assert line == "sent\n"
        assert server.stdout.readline() == f"{FLOWS * EACH}\n"


def test_what_is_held_of_all_connections_together_is_bounded(lab: RunningLab) -> None:
    """Objects that wait to be judged as a whole: 20 of 40 MB would be too much."""
    since = lab.last_sequence()
    body = b"\0" * (40 << 20)
    process = Service(lab, HELD_PORT)(b"")
    code = (
        "import socket,sys,threading\n"
        "h=b'POST / HTTP/1.1\\r\\nHost: db\\r\\nContent-Length: 50000000\\r\\n\\r\\n'\n"
        "def one():\n"
        "  try:\n"
        f"    with socket.create_connection((sys.argv[1],{HELD_PORT}),10) as c: c.sendall(h+bytes({len(body)})); c.recv(1)\n"
        "  except OSError: pass\n"
        "ts=[threading.Thread(target=one,daemon=True) for _ in range(20)]\n"
        "[t.start() for t in ts]; [t.join(15) for t in ts]\n"
    )
    try:
        argv = ["nsenter", f"--net=/run/netns/{lab.lab.peer_namespace('web')}", sys.executable, "-c", code]
        argv.append(str(lab.spec.machine("db").ip))
        with subprocess.Popen(argv):
            worst, end = 0, time.monotonic() + 12
            while time.monotonic() < end:
                worst = max(worst, memory(lab))
                time.sleep(0.5)
        assert "held" in found(lab, since)
        assert worst < BOUND + (256 << 20)
    finally:
        process.kill()
        process.wait(5)
    lab.until(lambda: lab.json("status")["inspectors"] == 1)
    process = Service(lab, PORT)(b"answer")
    try:
        assert client(lab, PORT, b"\0 binary")[0] == b"answer"
    finally:
        process.kill()
        process.wait(5)
