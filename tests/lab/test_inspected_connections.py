"""To guests an inspected connection is like any other: refusals, silence, ports that are used again, many in a row."""

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.conftest import RunningLab, running
from vmhost.lab.defaults import default_spec
from vmhost.monitor.client import ask
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(300)]
PORT, CLOSED_PORT, SILENT_PORT = 8080, 8081, 8082
ROW = int(os.environ.get("QUOTEGATE_CONNECTIONS", "20000"))
RULE = f"""
[[rule]]
id = "web-to-db-inspected"
from = "web"
to = "db"
service = ["tcp/{CLOSED_PORT}", "tcp/{SILENT_PORT}"]
action = "allow"
open = "on-demand"
lease = "1h"
inspect = {{ detectors = ["secrets", "malware"] }}
"""
ANSWER = """
import contextlib, socket
server = socket.create_server(("0.0.0.0", {port}), backlog=512)
print("up", flush=True)
while True:
    connection, _ = server.accept()
    with connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"answer to " + connection.recv(100))
        connection.shutdown(socket.SHUT_WR)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    spec = default_spec(Lab(f"c{os.getpid() % 100000}"))
    text = spec.policy_text.replace(
        f'service = "tcp/{PORT}"',
        f'service = "tcp/{PORT}"\nlease = "1h"\ninspect = {{ detectors = ["secrets"] }}',
    )
    with running(replace(spec, policy_text=text + RULE)) as one:
        one.cli("authority", "grant", "--for", "1h")
        yield one


def inside(lab: RunningLab, peer: str, code: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{lab.lab.peer_namespace(peer)}", sys.executable, "-c", code]


@pytest.fixture(scope="module", autouse=True)
def server(lab: RunningLab) -> Iterator[None]:
    with subprocess.Popen(inside(lab, "db", ANSWER.format(port=PORT)), stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield
        process.kill()


def client(lab: RunningLab, code: str) -> str:
    """Run code in web that knows `ip`; return what it printed."""
    begin = f"import socket, time\nip = {str(lab.spec.machine('db').ip)!r}\n"
    done = subprocess.run(
        inside(lab, "web", begin + code), capture_output=True, text=True, timeout=240, check=False
    )
    return (done.stdout + done.stderr[-500:]).strip()


CONNECT = """
began = time.monotonic()
try:
    socket.create_connection((ip, {port}), {within}).close()
    print("open")
except OSError as error:
    print(type(error).__name__, time.monotonic() - began < {within} / 2)
"""


def test_a_refused_connection_is_refused(lab: RunningLab) -> None:
    before = sum(lab.json("status")["drops"].values())
    for _ in range(3):
        assert client(lab, CONNECT.format(port=CLOSED_PORT, within=3)) == "ConnectionRefusedError True"
    assert sum(lab.json("status")["drops"].values()) == before  # it is the server's answer, no drop of ours


def test_a_silent_server_is_silent(lab: RunningLab) -> None:
    namespace = lab.lab.peer_namespace("db")
    rules = f"table inet qg-silent {{ chain in {{ type filter hook input priority 0; tcp dport {SILENT_PORT} drop; }}; }}"
    nft = ["nsenter", f"--net=/run/netns/{namespace}", "nft"]
    subprocess.run([*nft, rules.replace("qg-silent", "qg_silent")], check=True)
    try:
        assert client(lab, CONNECT.format(port=SILENT_PORT, within=2.5)) == "TimeoutError False"
    finally:
        subprocess.run([*nft, "delete table inet qg_silent"], check=True)


def test_a_source_port_may_be_used_again_at_once(lab: RunningLab) -> None:
    code = f"""
for number in range(5):
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        one.bind(("", 41234))
        one.settimeout(5)
        one.connect((ip, {PORT}))
        one.sendall(b"request %d" % number)
        answer = b""
        while data := one.recv(100):
            answer += data
        print(answer.decode(), end=";")
"""
    assert client(lab, code) == "".join(f"answer to request {number};" for number in range(5))


SINK = """
import socket
server = socket.create_server(("0.0.0.0", {port}))
print("up", flush=True)
connection, _ = server.accept()
while connection.recv(1 << 16):
    pass
"""


def test_delivery_is_confirmed_by_the_receivers_own_counters(lab: RunningLab) -> None:
    with subprocess.Popen(inside(lab, "db", SINK.format(port=CLOSED_PORT)), stdout=subprocess.PIPE) as sink:
        assert sink.stdout
        sink.stdout.readline()
        done = lab.exec("web", "quotegate-agent", "connect", "db", f"tcp/{CLOSED_PORT}", data=b"x" * 100_000)
    assert done.returncode == 0, done.stderr
    assert b"delivered: sent 100000 bytes, 100000 acknowledged, 100000 confirmed" in done.stderr


TWO = f"""
import select
ends = []
for port in ({PORT}, {CLOSED_PORT}):
    one = socket.create_connection((ip, port), 5)
    one.sendall(b"begin, and say no more" if port == {CLOSED_PORT} else b"")
    ends.append(one)
print("open", flush=True)
input()
for one in ends:
    try:
        print("over" if select.select([one], [], [], 1)[0] and not one.recv(10) else "lives")
    except ConnectionResetError:
        print("reset")
"""


def _listening(argv: list[str]) -> "subprocess.Popen[bytes]":
    """Start a server; return once it says that it listens."""
    server = subprocess.Popen(argv, stdout=subprocess.PIPE)
    assert server.stdout
    server.stdout.readline()
    return server


def test_a_connection_whose_rule_inspects_otherwise_now_is_ended(lab: RunningLab, tmp_path: Path) -> None:
    begin = f"import socket, time\nip = {str(lab.spec.machine('db').ip)!r}\n"
    changed = tmp_path / "policy.toml"
    since = lab.last_sequence()
    with (
        _listening(inside(lab, "db", SINK.format(port=CLOSED_PORT))) as sink,
        subprocess.Popen(
            inside(lab, "web", begin + TWO), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        ) as clients,
    ):
        assert sink.stdout
        assert clients.stdout
        assert clients.stdout.readline() == "open\n"
        changed.write_text(lab.spec.policy_text.replace('["secrets"]', '["secrets", "personal"]'))
        lab.cli("policy", "apply", str(changed))
        lab.until(lambda: lab.events(since, "content-found"))
        said, _ = clients.communicate("\n", timeout=20)
        assert said.split() == ["reset", "lives"]
    (event,) = lab.events(since, "content-found")
    assert (event["status_code"], event["unmapped"]["check"]) == ("admin-cut", "policy")
    changed.write_text(lab.spec.policy_text)
    lab.cli("policy", "apply", str(changed))


def test_very_many_connections_in_a_row(lab: RunningLab) -> None:
    before = ask(lab.lab, "status")["gateway"]["pids"]["inspector"]
    code = f"""
good, began = 0, time.monotonic()
for number in range({ROW}):
    with socket.create_connection((ip, {PORT}), 10) as one:
        one.sendall(b"request %d" % number)
        answer = b""
        while data := one.recv(100):
            answer += data
    good += answer == b"answer to request %d" % number
print(good)
"""
    assert client(lab, code) == str(ROW)
    assert ask(lab.lab, "status")["gateway"]["pids"]["inspector"] == before
