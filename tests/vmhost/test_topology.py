"""The host's bridge, with frames really sent: who can reach whom below the gateway."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.vmhost.frames import FRAMES
from vmhost import topology
from vmhost.commands import in_namespace, run
from vmhost.errors import HostError
from vmhost.lab.defaults import default_spec
from vmhost.names import Lab
from vmhost.spec import LabSpec
from vmhost.topology import build_topology, destroy_topology, namespaces_of

pytestmark = pytest.mark.netns


@pytest.fixture(scope="module")
def spec() -> Iterator[LabSpec]:
    spec = default_spec(Lab(f"t{os.getpid()}"))
    build_topology(spec)
    yield spec
    destroy_topology(spec.lab)
    assert namespaces_of(spec.lab) == []


def send(spec: LabSpec, peer: str, kind: str, target: str) -> list[str]:
    """Send one frame from a peer; return who saw it, of the target and the gateway."""
    receiver, gateway = spec.machine(target), spec.gateway
    namespaces = {target: spec.lab.peer_namespace(target), "gateway": spec.lab.gateway_namespace}
    listeners = {
        name: subprocess.Popen(
            in_namespace(namespace, [sys.executable, "-m", "tests.vmhost.frames", "listen"]),
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, namespace in namespaces.items()
    }
    for one in listeners.values():
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    sender = spec.machine(peer)
    words = [kind, sender.mac, str(sender.ip), receiver.mac, str(receiver.ip), gateway.mac, str(gateway.ip)]
    run(
        in_namespace(
            spec.lab.peer_namespace(peer), [sys.executable, "-m", "tests.vmhost.frames", "send", *words]
        )
    )
    return sorted(name for name, one in listeners.items() if "seen" in one.communicate(timeout=10)[0])


def test_the_hosts_own_firewall_does_not_see_the_bridge(spec: LabSpec) -> None:
    script = "for one in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $one ] || cat $one; done"
    assert set(run(in_namespace(spec.lab.host_namespace, ["sh", "-c", script])).split()) <= {"0"}


def test_no_machine_has_the_hosts_congestion_control(spec: LabSpec) -> None:
    for namespace in (spec.lab.gateway_namespace, *(spec.lab.peer_namespace(one.peer) for one in spec.peers)):
        algorithm = run(in_namespace(namespace, ["cat", "/proc/sys/net/ipv4/tcp_congestion_control"]))
        assert algorithm.strip() in ("cubic", "reno")


def test_the_gateway_is_reached(spec: LabSpec) -> None:
    assert send(spec, "web", "to-gateway", "db") == ["gateway"]
    assert send(spec, "web", "arp-for-gateway", "db") == ["gateway"]


@pytest.mark.parametrize("kind", [name for name in FRAMES if name not in ("to-gateway", "arp-for-gateway")])
def test_nothing_else_gets_anywhere(spec: LabSpec, kind: str) -> None:
    assert send(spec, "web", kind, "db") == []


def test_a_static_neighbour_does_not_help(spec: LabSpec) -> None:
    db, namespace = spec.machine("db"), spec.lab.peer_namespace("web")
    run(
        [
            "ip",
            "-n",
            namespace,
            "neigh",
            "replace",
            str(db.ip),
            "lladdr",
            db.mac,
            "dev",
            "eth0",
            "nud",
            "permanent",
        ]
    )
    ping = subprocess.run(
        in_namespace(namespace, ["ping", "-c", "1", "-W", "1", str(db.ip)]), capture_output=True, check=False
    )
    run(["ip", "-n", namespace, "neigh", "del", str(db.ip), "dev", "eth0"])
    assert ping.returncode != 0


def test_drops_are_counted_by_reason(spec: LabSpec) -> None:
    send(spec, "web", "spoofed-ip", "db")
    text = run(
        in_namespace(
            spec.lab.host_namespace, ["nft", "list", "counters", "table", "bridge", "quotegate_host"]
        )
    )
    spoofed = text.split("spoofed-source")[1].split("packets ")[1].split()[0]
    assert int(spoofed) > 0


def test_a_failed_build_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = default_spec(Lab(f"u{os.getpid()}"), 2)
    monkeypatch.setattr(topology, "_GUEST_PORT", "nonsense on")
    with pytest.raises(HostError, match="failed"):
        build_topology(spec)
    assert namespaces_of(spec.lab) == []
