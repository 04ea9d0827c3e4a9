"""Inspected connections in a lab: real programs, a real kernel, what arrives is looked at where it arrives."""

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.cli.demo.capture import Capture
from tests.filters.inspection.drive import EICAR, answer
from tests.lab.conftest import RunningLab, running
from tests.lab.inspected import Service, client, found, token
from vmhost.lab.defaults import default_spec
from vmhost.monitor.client import ask
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(300)]
PORT, PLAIN_PORT, HELD_PORT, OFFLOADED_PORT = 8080, 5432, 9090, 9091
INSPECT = 'inspect = { detectors = ["secrets", "malware"] }'
Serve = Callable[..., None]
HELD = f"""
[[rule]]
id = "web-to-db-held"
from = "web"
to = "db"
service = "tcp/{HELD_PORT}"
action = "allow"
open = "on-demand"
inspect = {{ protocol = "http", hold = "object", deny_types = ["executable"] }}
"""
OFFLOADED = f"""
[[rule]]
id = "web-to-db-offloaded"
from = "web"
to = "db"
service = "tcp/{OFFLOADED_PORT}"
action = "allow"
open = "on-demand"
inspect = {{ detectors = ["secrets"], offload_after = "64KiB" }}
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    spec = default_spec(Lab(f"i{os.getpid() % 100000}"))
    text = (
        spec.policy_text.replace(f'service = "tcp/{PORT}"', f'service = "tcp/{PORT}"\n{INSPECT}')
        + HELD
        + OFFLOADED
    )
    text = text.replace(f'service = "tcp/{PLAIN_PORT}"', f'service = "tcp/{PLAIN_PORT}"\nopen = "on-demand"')
    with running(replace(spec, policy_text=text)) as one:
        one.cli("authority", "grant", "--for", "1h")
        one.until(lambda: one.json("status")["inspectors"] == 1)
        yield one


@pytest.fixture
def serve(lab: RunningLab) -> Iterator[Serve]:
    started: list[subprocess.Popen[bytes]] = []

    def start(port: int, data: bytes = b"") -> None:
        started.append(Service(lab, port)(data))

    yield start
    for one in started:
        one.kill()
        one.wait(5)


GET = b"GET / HTTP/1.1\r\nHost: db\r\nConnection: close\r\n\r\n"


def test_clean_bytes_pass_whole_both_ways(lab: RunningLab, serve: Serve) -> None:
    body = random.randbytes(3 << 20)
    serve(PORT, answer(body))
    got, end = client(lab, PORT, GET)
    assert (hashlib.sha256(got).digest(), end) == (hashlib.sha256(answer(body)).digest(), "closed")


@pytest.mark.parametrize("pieces", [1, 40])
def test_a_secret_on_its_way_out_is_stopped_and_its_last_byte_never_arrives(
    lab: RunningLab, serve: Serve, tmp_path: Path, pieces: int
) -> None:
    serve(PORT)
    secret, since = token(), lab.last_sequence()
    capture = Capture.start(lab.lab.peer_namespace("db"), f"tcp dst port {PORT}", tmp_path)
    got, end = client(
        lab, PORT, b"\0some words before " + secret + b" and after " * 20, pieces=pieces, hold_s=0.5
    )
    time.sleep(0.3)
    capture.stop()
    arrived = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert end == "reset"
    assert got == b""
    assert found(lab, since) == ["secrets.github-token"]
    assert secret not in arrived
    assert secret[-6:] not in arrived
    (event,) = lab.events(since, "content-found")
    assert event["class_uid"] == 2004
    assert secret.decode() not in str(event)


def test_malware_in_an_answer_is_stopped_and_counted(lab: RunningLab, serve: Serve) -> None:
    serve(PORT, answer(b"x" * 2000 + EICAR))
    since = lab.last_sequence()
    got, end = client(lab, PORT, GET)
    assert end == "reset"
    assert EICAR not in got
    assert "malware.eicar" in found(lab, since)
    assert lab.json("status")["drops"]["malware"] >= 1


def test_of_a_held_object_not_one_byte_arrives(lab: RunningLab, serve: Serve) -> None:
    program, since = Path("/bin/true").read_bytes(), lab.last_sequence()
    serve(HELD_PORT, answer(program))
    got, _ = client(lab, HELD_PORT, GET)
    assert program[:16] not in got
    assert found(lab, since) == ["object-type"]
    since = lab.last_sequence()
    _, end = client(lab, HELD_PORT, b"\1\2\3 this is not HTTP at all, whatever the port says" * 20)
    assert end == "reset"
    assert found(lab, since) == ["protocol"]


def test_other_rules_flows_are_routed_as_before(lab: RunningLab, serve: Serve) -> None:
    serve(PLAIN_PORT, EICAR)
    got, end = client(lab, PLAIN_PORT, b"hello")
    assert (got, end) == (EICAR, "closed")


def test_many_connections_in_a_row_and_no_socket_is_left(lab: RunningLab, serve: Serve) -> None:
    serve(PORT, answer(b"small"))
    count = int(os.environ.get("QUOTEGATE_CONNECTIONS", "1500"))
    code = (
        "import socket\n"
        f"for i in range({count}):\n"
        f"  c=socket.create_connection(('{lab.spec.machine('db').ip}',{PORT}),10)\n"
        f"  c.sendall({GET!r}); got=b''\n"
        "  while (p:=c.recv(65536)): got+=p\n"
        "  c.close(); assert got.endswith(b'small'),(i,got)\n"
        "print('done')\n"
    )
    argv = ["nsenter", f"--net=/run/netns/{lab.lab.peer_namespace('web')}", sys.executable, "-c", code]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=280, check=False)
    assert done.stdout.strip() == "done", done.stderr
    (pid,) = [ask(lab.lab, "status")["gateway"]["pids"]["inspector"]]
    lab.until(lambda: len(list(Path(f"/proc/{pid}/fd").iterdir())) < 80)


def test_a_dead_inspector_costs_its_flows_and_comes_back(lab: RunningLab, serve: Serve) -> None:
    serve(PORT, answer(b"small"))
    before = ask(lab.lab, "status")["gateway"]
    ended: list[str] = []
    slow = threading.Thread(target=lambda: ended.append(client(lab, PORT, b"\0slow", hold_s=3)[1]))
    slow.start()
    time.sleep(1)
    os.kill(before["pids"]["inspector"], signal.SIGKILL)
    slow.join(20)
    assert ended in (["reset"], ["closed"])
    lab.until(lambda: client(lab, PORT, GET)[0].endswith(b"small"), 15)
    after = ask(lab.lab, "status")["gateway"]
    assert after["starts"] == before["starts"]
    assert {name: pid for name, pid in after["pids"].items() if name != "inspector"} == {
        name: pid for name, pid in before["pids"].items() if name != "inspector"
    }


def test_without_an_inspector_nothing_passes_uninspected(
    lab: RunningLab, serve: Serve, tmp_path: Path
) -> None:
    serve(PORT, answer(b"small"))
    ask(lab.lab, "pause", on=True)
    try:
        os.kill(ask(lab.lab, "status")["gateway"]["pids"]["inspector"], signal.SIGKILL)
        time.sleep(0.3)
        capture = Capture.start(lab.lab.peer_namespace("db"), f"tcp dst port {PORT}", tmp_path)
        namespace = lab.lab.peer_namespace("web")
        code = f"import socket\ntry: socket.create_connection(('{lab.spec.machine('db').ip}',{PORT}),1.5); print('open')\nexcept OSError as e: print(type(e).__name__)"
        argv = ["nsenter", f"--net=/run/netns/{namespace}", sys.executable, "-c", code]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False).stdout.strip()
        assert said == "TimeoutError"
        assert capture.stop() == []
        assert lab.json("status")["drops"]["inspector-down"] >= 1
    finally:
        ask(lab.lab, "pause", on=False)
    lab.until(lambda: lab.json("status")["inspectors"] == 1)


@pytest.mark.parametrize("secret_at", [1000, 1 << 20])
def test_behind_the_depth_the_kernel_carries_and_nobody_looks(
    lab: RunningLab, serve: Serve, secret_at: int
) -> None:
    sent = b"\0" + bytes(secret_at) + b"\n" + token() + b"\n" + bytes(4 << 20)
    since, answered = lab.last_sequence(), b"\0" + os.urandom(3 << 20)
    serve(OFFLOADED_PORT, answered)
    # in pieces: what is still to be sent on is looked at, however much it is
    got, end = client(lab, OFFLOADED_PORT, sent, pieces=60)
    if secret_at > 64 << 10:
        assert (hashlib.sha256(got).digest(), end) == (hashlib.sha256(answered).digest(), "closed")
        assert lab.events(since, "content-found") == []
    else:
        assert end == "reset"
        assert found(lab, since) == ["secrets.github-token"]


@pytest.mark.parametrize("port", [PORT, OFFLOADED_PORT])
@pytest.mark.parametrize("cut", [True, False])
def test_after_a_cut_not_one_buffered_byte_leaves(
    lab: RunningLab, serve: Serve, tmp_path: Path, cut: bool, port: int
) -> None:
    """The inspector's buffers are full when the sender is cut, and then the receiver begins to read."""
    namespace = lab.lab.peer_namespace("db")
    code = (
        "import socket,sys\n"
        f"s=socket.create_server(('0.0.0.0',{port}))\nprint('up',flush=True)\n"
        "c,_=s.accept(); sys.stdin.readline()\nwhile c.recv(1<<16): pass\n"
    )
    argv = ["nsenter", f"--net=/run/netns/{namespace}", sys.executable, "-c", code]
    slow = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert slow.stdin
    assert slow.stdout
    slow.stdout.readline()
    sender = threading.Thread(target=lambda: client(lab, port, b"\0" + bytes(8 << 20)))
    sender.start()
    time.sleep(1.5)
    if cut:
        lab.cli("peer", "quarantine", "web")
    time.sleep(0.1)
    capture = Capture.start(namespace, f"tcp dst port {port} and greater 100", tmp_path)
    slow.stdin.write(b"read\n")
    slow.stdin.flush()
    time.sleep(1)
    try:
        assert (capture.stop() == []) is cut
    finally:
        slow.kill()
        slow.wait(5)
        if cut:
            lab.cli("peer", "release", "web")
        sender.join(30)
    lab.until(lambda: lab.peer("web")["state"] == "trusted")
