"""Test beds: a topology with plain routing, and one behind a netd of our own."""

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Network
from pathlib import Path
from tempfile import TemporaryDirectory

from filters.netd.client import NetdClient
from filters.policy.compiled import CompiledPolicy, compile_policy
from filters.policy.parser import parse_policy
from vmhost.commands import in_namespace, run
from vmhost.lab.defaults import PROFILE_TEXT, make_spec, peer_text, place
from vmhost.names import NETD_UID, Lab
from vmhost.process import Program, Rights, start, wait_for_socket
from vmhost.spec import LabSpec
from vmhost.topology import build_topology, destroy_topology

PORT = 5432
ECHO_PORT = 5433
OTHER_PORT = 5434
RULE = '\n[[rule]]\nid = "all"\nfrom = "a"\nto = "b"\nservice = "any"\naction = "allow"\nlease = "1h"\n'


def make_bed_spec(name: str, network: str, rule: str = RULE) -> LabSpec:
    """Describe a bed with two peers, a and b."""

    net = IPv4Network(network)
    peers = [place("a", net[2]), place("b", net[3])]
    return make_spec(Lab(name), peers, PROFILE_TEXT + "".join(map(peer_text, peers)) + rule, net)


@dataclass(slots=True)
class Bed:
    """A topology, with servers in b."""

    spec: LabSpec

    def push(self, seconds: float, file: str = "", port: int = PORT) -> float:
        """Send from a to b; return bits per second."""
        return self._run("push", port, seconds, *([file] if file else []))[0]

    def push_from_one_cpu(self, seconds: float, port: int = PORT) -> float:
        """Do the same with a sender that stays where it is: for flows that nobody inspects, whose ends share the work.

        Where the scheduler puts both ends is worth a factor of two, and that is not what is measured.
        """
        cpu = str(min(os.sched_getaffinity(0)))
        return float(run(["taskset", "-c", cpu, *self._argv("push", port, seconds)]))

    def push_together(self, seconds: float, file: str, ports: Sequence[int], sources: Sequence[int]) -> float:
        """Send from a to several ports of b at the same time, each from a port of its own; return the sum of bits per second."""
        flows = [
            subprocess.Popen(
                self._argv("push", port, seconds, file, source), stdout=subprocess.PIPE, text=True
            )
            for port, source in zip(ports, sources, strict=True)
        ]
        return sum(float(one.communicate(timeout=60)[0]) for one in flows)

    def connect(self, seconds: float) -> float:
        """Return connections (connect, one request, close) per second."""
        return self._run("connect", ECHO_PORT, seconds)[0]

    def ask(self, count: int) -> tuple[float, float]:
        """Return median and 99th percentile of a round trip, in microseconds."""
        p50, p99 = self._run("ask", ECHO_PORT, count)
        return p50, p99

    def _run(self, verb: str, port: int, *words: object) -> list[float]:
        return [float(one) for one in run(self._argv(verb, port, *words)).split()]

    def _argv(self, verb: str, port: int, *words: object) -> list[str]:
        argv = [
            sys.executable,
            "-m",
            "bench.flow",
            verb,
            str(self.spec.machine("b").ip),
            str(port),
            *map(str, words),
        ]
        return in_namespace(self.spec.lab.peer_namespace("a"), argv)


@contextmanager
def bed(name: str, network: str, rule: str = RULE, more_sinks: Sequence[int] = ()) -> Iterator[Bed]:
    """Build a topology with servers in b, more_sinks: ports of further ones that take everything; all goes again."""
    spec = make_bed_spec(name, network, rule)
    destroy_topology(spec.lab)
    build_topology(spec)
    servers = []
    try:
        # thousands of connections a second: soon there is no port whose last connection is forgotten
        reuse = ["sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1"]
        run(in_namespace(spec.lab.peer_namespace("a"), reuse))
        sinks = [("serve", port) for port in (PORT, OTHER_PORT, *more_sinks)]
        for verb, port in (*sinks, ("echo", ECHO_PORT)):
            argv = in_namespace(
                spec.lab.peer_namespace("b"), [sys.executable, "-m", "bench.flow", verb, str(port)]
            )
            servers.append(subprocess.Popen(argv, stdout=subprocess.PIPE, text=True))
            assert servers[-1].stdout is not None
            servers[-1].stdout.readline()
        yield Bed(spec)
    finally:
        for server in servers:
            server.kill()
            server.wait(5)
        destroy_topology(spec.lab)


def route_plainly(spec: LabSpec) -> None:
    """Let the gateway's kernel route between the isolated ports, with no rule at all."""
    settings = ["net.ipv4.ip_forward=1", "net.ipv4.conf.eth0.proxy_arp_pvlan=1", "net.ipv4.conf.all.send_redirects=0",
                "net.ipv4.conf.eth0.send_redirects=0", "net.ipv4.neigh.eth0.proxy_delay=0"]  # fmt: skip
    run(in_namespace(spec.lab.gateway_namespace, ["sysctl", "-qw", *settings]))
    neighbours = "".join(
        f"neigh replace {one.ip} lladdr {one.mac} dev eth0 nud permanent\n" for one in spec.peers
    )
    run(["ip", "-n", spec.lab.gateway_namespace, "-batch", "-"], text=neighbours)


def compiled(spec: LabSpec) -> CompiledPolicy:
    """Compile the bed's policy."""
    policy = parse_policy(spec.policy_text)
    return compile_policy(
        policy, interface="eth0", gateway_ip=spec.gateway.ip, control_port=spec.control_port
    )


@contextmanager
def netd_on(spec: LabSpec) -> Iterator[Path]:
    """Run a netd in the bed's gateway as its own uid; yield its socket. The bench is its client."""
    with TemporaryDirectory(prefix="qg-bench-") as directory:
        Path(directory).chmod(0o777)
        socket = Path(directory) / "netd.sock"
        project = Path(__file__).resolve().parents[1]
        argv = (
            str(project / ".venv/bin/python"),
            "-B",
            "-m",
            "filters.netd.main",
            "--socket",
            str(socket),
            "--client-uid",
            "0",
            "--interface",
            "eth0",
            "--inspector-socket",
            str(Path(directory) / "inspector.sock"),
            "--inspector-uid",
            "0",
        )
        # as root where the clone lies below a directory that netd's uid can't read
        uid = NETD_UID if _readable(project) else 0
        program = Program(
            "netd",
            argv,
            spec.lab.gateway_namespace,
            Rights(uid, uid, ("net_admin",)),
            Path(directory) / "log",
            {"PYTHONPATH": str(project)},
        )
        running = start(program)
        try:
            if not wait_for_socket(socket, running):
                raise SystemExit(f"bench: netd did not come up: {program.log.read_text()}")
            yield socket
        finally:
            running.stop()


def _readable(project: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (project, *project.parents))


async def open_gates(client: NetdClient, spec: LabSpec) -> None:
    """Load the policy and trust everybody for an hour."""
    until = time.clock_gettime(time.CLOCK_BOOTTIME) + 3600
    await client.load_policy(compiled(spec))
    await client.authority(until)
    await asyncio.gather(*(client.trust(peer.ip, until) for peer in spec.peers))
