"""Inspected datagrams in a lab: they pass only when an inspector has let them, and each drop has its reason."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.filters.inspection.drive import EICAR
from tests.lab.conftest import RunningLab, running
from tests.lab.inspected import found, token
from vmhost.lab.defaults import default_spec
from vmhost.monitor.client import ask
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]
PORT, PLAIN_PORT, ANSWER_PORT = 5353, 5354, 5355
RULES = f"""
[[rule]]
id = "web-to-db-datagrams"
from = "web"
to = "db"
service = ["udp/{PORT}", "udp/{ANSWER_PORT}", "icmp/echo"]
action = "allow"
open = "on-demand"
inspect = {{ detectors = ["secrets", "malware"] }}

[[rule]]
id = "web-to-db-plain"
from = "web"
to = "db"
service = "udp/{PLAIN_PORT}"
action = "allow"
open = "on-demand"
"""
ECHO = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(("0.0.0.0", int(sys.argv[1])))
print("up", flush=True)
while True:
    data, who = s.recvfrom(65535)
    s.sendto(sys.argv[2].encode() if len(sys.argv) > 2 else data, who)
"""
ASK = """
import socket, sys
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.settimeout(float(sys.argv[3]))
s.connect((sys.argv[1], int(sys.argv[2])))
for size in map(int, sys.argv[4].split(",")):
    data = sys.stdin.buffer.read(size)
    try:
        s.send(data)
        print(len(s.recv(65535)), flush=True)
    except OSError as error:
        print(type(error).__name__, flush=True)
"""


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    spec = default_spec(Lab(f"d{os.getpid() % 100000}"))
    with running(replace(spec, policy_text=spec.policy_text + RULES)) as one:
        one.cli("authority", "grant", "--for", "1h")
        yield one


def inside(lab: RunningLab, peer: str, *argv: str) -> list[str]:
    return ["nsenter", f"--net=/run/netns/{lab.lab.peer_namespace(peer)}", *argv]


@pytest.fixture(scope="module", autouse=True)
def echo(lab: RunningLab) -> Iterator[None]:
    started = []
    for port in (PORT, PLAIN_PORT):
        argv = inside(lab, "db", sys.executable, "-c", ECHO, str(port))
        started.append(subprocess.Popen(argv, stdout=subprocess.PIPE))
        assert started[-1].stdout
        started[-1].stdout.readline()
    yield
    for one in started:
        one.kill()
        one.wait(5)


def asked(lab: RunningLab, *datagrams: bytes, port: int = PORT, within_s: float = 1.5) -> list[str]:
    """Send datagrams from one port, each after the former's answer; return each answer's length or error."""
    sizes = ",".join(str(len(one)) for one in datagrams)
    ends = str(lab.spec.machine("db").ip), str(port), str(within_s), sizes
    argv = inside(lab, "web", sys.executable, "-c", ASK, *ends)
    done = subprocess.run(argv, input=b"".join(datagrams), capture_output=True, timeout=60, check=True)
    return done.stdout.decode().split()


def drops(lab: RunningLab, reason: str) -> int:
    return int(lab.json("status")["drops"].get(reason, 0))


def test_clean_datagrams_pass_small_and_large(lab: RunningLab) -> None:
    assert asked(lab, b"x", bytes(1400), bytes(9000), bytes(65000)) == ["1", "1400", "9000", "65000"]


def test_a_secret_is_dropped_and_its_flow_with_it(lab: RunningLab) -> None:
    since, before = lab.last_sequence(), drops(lab, "data-leak")
    assert asked(lab, b"clean", token(), b"clean") == ["5", "TimeoutError", "TimeoutError"]
    assert found(lab, since) == ["secrets.github-token"]
    (event,) = lab.events(since, "content-found")
    assert (event["unmapped"]["protocol"], event["status_code"]) == (17, "data-leak")
    assert drops(lab, "data-leak") == before + 2
    assert asked(lab, b"another flow") == ["12"]


def test_what_is_spread_over_two_datagrams_is_stopped(lab: RunningLab) -> None:
    since = lab.last_sequence()
    assert asked(lab, b"x" + EICAR[:30], EICAR[30:]) == ["31", "TimeoutError"]
    assert found(lab, since) == ["malware.eicar"]


def test_an_answer_is_looked_at_too(lab: RunningLab) -> None:
    since, secret = lab.last_sequence(), token()
    argv = inside(lab, "db", sys.executable, "-c", ECHO, str(ANSWER_PORT), secret.decode())
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as server:
        assert server.stdout
        server.stdout.readline()
        try:
            assert asked(lab, b"ask", port=ANSWER_PORT) == ["TimeoutError"]
        finally:
            server.kill()
    assert found(lab, since) == ["secrets.github-token"]
    (event,) = lab.events(since, "content-found")
    assert event["unmapped"]["direction"] == "to-client"


def test_echo_requests_are_looked_at(lab: RunningLab) -> None:
    target = str(lab.spec.machine("db").ip)
    clean = subprocess.run(
        inside(lab, "web", "ping", "-c2", "-i0.2", "-W1", target), capture_output=True, check=False
    )
    assert b" 0% packet loss" in clean.stdout
    since = lab.last_sequence()
    # ping repeats at most 16 bytes of a pattern: a raw socket carries the whole token
    code = (
        "import socket,struct,sys\n"
        "def check(d):\n"
        "  d+=b'\\0'*(len(d)%2); t=sum(struct.unpack('!%dH'%(len(d)//2),d)); t=(t>>16)+(t&65535); return ~(t+(t>>16))&65535\n"
        "d=sys.stdin.buffer.read(); h=struct.pack('!BBHHH',8,0,0,7,1)\n"
        "p=struct.pack('!BBHHH',8,0,check(h+d),7,1)+d\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_RAW,socket.IPPROTO_ICMP); s.settimeout(1.5)\n"
        f"s.sendto(p,('{target}',0))\n"
        "try: s.recv(1000); print('answered')\n"
        "except TimeoutError: print('silent')\n"
    )
    argv = inside(lab, "web", sys.executable, "-c", code)
    for data, said in ((b"clean " * 6, b"answered"), (b"echo " + token(), b"silent")):
        done = subprocess.run(argv, input=data, capture_output=True, timeout=20, check=True)
        assert done.stdout.strip() == said
    assert found(lab, since) == ["secrets.github-token"]


def test_rules_without_inspect_are_not_looked_at(lab: RunningLab) -> None:
    assert asked(lab, token(), port=PLAIN_PORT) == ["40"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_without_a_judge_no_datagram_passes(lab: RunningLab, number: signal.Signals) -> None:
    """Killed: nobody is there. Stopped: nobody answers in time."""
    ask(lab.lab, "pause", on=True)
    pid = ask(lab.lab, "status")["gateway"]["pids"]["inspector"]
    try:
        assert asked(lab, b"x") == ["1"]
        os.kill(pid, number)
        time.sleep(0.2)
        before = drops(lab, "inspector-down")
        assert asked(lab, b"x", b"y") == ["TimeoutError", "TimeoutError"]
        assert drops(lab, "inspector-down") == before + 2
        assert asked(lab, b"x", port=PLAIN_PORT) == ["1"]
    finally:
        if number == signal.SIGSTOP:
            os.kill(pid, signal.SIGCONT)
        ask(lab.lab, "pause", on=False)
    lab.until(lambda: lab.json("status")["inspectors"] == 1)
    lab.until(lambda: asked(lab, b"x") == ["1"])


def test_a_flood_of_datagrams_costs_packets_not_the_gateway(lab: RunningLab) -> None:
    namespace_code = (
        "import socket,sys,time\n"
        "s=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
        f"s.connect(('{lab.spec.machine('db').ip}',{PORT}))\n"
        "end=time.monotonic()+2; n=0\n"
        "while time.monotonic()<end:\n"
        "  try: s.send(bytes(1000)); n+=1\n"
        "  except OSError: pass\n"
        "print(n)\n"
    )
    before = ask(lab.lab, "status")["gateway"]
    flood = subprocess.run(
        inside(lab, "web", sys.executable, "-c", namespace_code), capture_output=True, timeout=30, check=True
    )
    assert int(flood.stdout) > 1000
    lab.until(lambda: asked(lab, b"after") == ["5"])
    after = ask(lab.lab, "status")["gateway"]
    assert (after["starts"], after["pids"]) == (before["starts"], before["pids"])
    assert lab.all_trusted()
