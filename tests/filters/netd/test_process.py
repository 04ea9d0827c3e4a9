"""The process: its rights, who may speak to it, and what is left when it or its client goes."""

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from filters.flow import FlowKey, Protocol, Service
from filters.netd.protocol import Disconnected, Dropped
from filters.netd.state import boottime
from filters.reason import DropReason
from filters.ruleset.names import INSPECTION_TABLE, MARK_INSPECTED
from filters.ruleset.sysctls import GATEWAY_SYSCTLS
from tests.filters.netd.daemon import UID, Client, Daemon, eventually
from tests.filters.ruleset import policies
from tests.filters.ruleset.network import A, B, Network
from tests.filters.ruleset.traffic import echoes, tcp_connect, tcp_echo

pytestmark = pytest.mark.netns

IP_A, IP_B = policies.address(A), policies.address(B)
KEY = FlowKey(IP_A, IP_B, Service(Protocol.TCP, 5432))
DB = (str(IP_B), 5432)
CAP_NET_ADMIN = 1 << 12


def test_runs_with_net_admin_only(ready: Client, daemon: Daemon) -> None:
    status = daemon.status()
    assert set(status["Uid"].split()) == {str(UID)}
    assert set(status["Gid"].split()) == {str(UID)}
    assert status["Groups"].strip() == ""
    for kind in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb"):
        assert int(status[kind], 16) == CAP_NET_ADMIN, kind
    assert status["NoNewPrivs"] == "1"


def test_sets_the_sysctls_the_ruleset_needs(network: Network, code: Path) -> None:
    network.gateway.sysctl("net/ipv4/ip_forward", "0")
    network.gateway.sysctl("net/netfilter/nf_conntrack_tcp_loose", "1")
    daemon = Daemon(network, code)
    try:
        daemon.wait_ready()
        for path, value in GATEWAY_SYSCTLS:
            name = path.format(interface="eth0")
            got = network.gateway.call(Path(f"/proc/sys/{name}").read_text)
            assert got.strip() == value, name
    finally:
        daemon.close()


def test_everything_is_closed_before_a_policy(daemon: Daemon) -> None:
    guests = daemon.network.guests
    with tcp_echo(guests[B], 5432), pytest.raises(TimeoutError):
        tcp_connect(guests[A], DB)


def test_pins_permanent_neighbours(ready: Client, daemon: Daemon) -> None:
    listed = daemon.network.gateway.run("ip", "neigh", "show", "nud", "permanent")
    for number in (A, B):
        assert f"{policies.address(number)} dev eth0 lladdr {policies.mac(number)} PERMANENT" in listed


def test_packets_are_routed_to_inspectors_from_the_first_policy_on_that_inspects(
    ready: Client, daemon: Daemon
) -> None:
    rule = f"fwmark {MARK_INSPECTED:#x} lookup {INSPECTION_TABLE}"
    assert rule not in daemon.network.gateway.run("ip", "rule")
    policy = policies.small()
    inspecting = replace(policy, allowed=tuple(replace(one, inspected=True) for one in policy.allowed))
    ready.call(ready.netd.load_policy(inspecting))
    assert rule in daemon.network.gateway.run("ip", "rule")


def test_samples_of_drops_are_pushed(ready: Client, daemon: Daemon) -> None:
    with pytest.raises(ConnectionRefusedError):
        tcp_connect(daemon.network.guests[A], DB)
    sample = ready.event(Dropped)
    assert sample.reason is DropReason.NO_SESSION
    assert sample.packet[12:20] == IP_A.packed + IP_B.packed


def test_second_client_is_refused_and_the_first_stays(ready: Client, daemon: Daemon) -> None:
    with pytest.raises(Exception, match="has a client"):
        Client(daemon.socket)
    ready.call(ready.netd.ping())


def test_who_is_refused_again_and_again_holds_few_descriptors(ready: Client, daemon: Daemon) -> None:
    descriptors = Path(f"/proc/{daemon.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    refused = [socket.socket(socket.AF_UNIX) for _ in range(60)]
    try:
        for one in refused:
            one.connect(str(daemon.socket))
            one.settimeout(5)
        told = [_answer(one) for one in refused]
        assert len(list(descriptors.iterdir())) - before <= 16
        assert 1 <= sum(b"has a client" in one for one in told) <= 16
        assert all(b"has a client" in one for one in told[:10])
    finally:
        for one in refused:
            one.close()
    ready.call(ready.netd.ping())


def _answer(sock: socket.socket) -> bytes:
    try:
        return sock.recv(4096)
    except ConnectionResetError:
        return b""


def test_rejects_a_foreign_uid(network: Network, code: Path) -> None:
    daemon = Daemon(network, code, client_uid=64103)
    try:
        daemon.wait_ready()
        with pytest.raises(Exception, match="may not use netd"):
            Client(daemon.socket)
        script = (
            "import asyncio, sys\nfrom filters.netd.client import NetdClient\n"
            "async def go():\n client = await NetdClient.connect(sys.argv[1])\n await client.close()\n"
            "asyncio.run(go())"
        )
        subprocess.run(
            [sys._base_executable, "-c", script, str(daemon.socket)],
            user=64103,
            group=64103,
            extra_groups=[],
            cwd="/",
            env={"PYTHONPATH": str(code), "PYTHONDONTWRITEBYTECODE": "1"},
            check=True,
            timeout=20,
        )
    finally:
        daemon.close()


def test_lost_client_cuts_everything(ready: Client, daemon: Daemon) -> None:
    ready.call(ready.netd.grant(7, KEY, 30_000))
    guests = daemon.network.guests
    with tcp_echo(guests[B], 5432), tcp_connect(guests[A], DB) as flow:
        assert echoes(flow)
        ready.close()
        time.sleep(0.05)
        flow.settimeout(0.3)
        assert not echoes(flow)
    second = Client(daemon.socket)
    try:
        second.call(second.netd.load_policy(policies.small()))
        snapshot = second.call(second.netd.snapshot())
        assert (snapshot.trusted, snapshot.leases, snapshot.authority_ms) == ({}, (), None)
    finally:
        second.close()


def test_old_connection_does_not_revive_under_a_new_client(ready: Client, daemon: Daemon) -> None:
    ready.call(ready.netd.grant(7, KEY, 30_000))
    guests = daemon.network.guests
    with tcp_echo(guests[B], 5432), tcp_connect(guests[A], DB) as flow:
        assert echoes(flow)
        ready.close()
        second = Client(daemon.socket)
        try:
            second.set_up(policies.small())
            second.call(second.netd.grant(7, KEY, 30_000))
            flow.settimeout(0.3)
            assert not echoes(flow)
            with tcp_connect(guests[A], DB) as fresh:
                assert echoes(fresh)
        finally:
            second.close()


def test_killed_daemon_leaves_a_flow_until_its_trust_ends(ready: Client, daemon: Daemon) -> None:
    ready.call(ready.netd.grant(7, KEY, 30_000))
    guests = daemon.network.guests
    with tcp_echo(guests[B], 5432), tcp_connect(guests[A], DB) as flow:
        ready.call(ready.netd.trust(IP_A, boottime() + 0.5))
        daemon.kill()
        assert echoes(flow)
        time.sleep(0.55)
        flow.settimeout(0.3)
        assert not echoes(flow)
    assert isinstance(ready.event(Disconnected), Disconnected)
    assert ready.code(ready.netd.ping()) == "gone"


def test_terminated_daemon_cuts_and_stays_closed(ready: Client, daemon: Daemon) -> None:
    ready.call(ready.netd.grant(7, KEY, 30_000))
    guests = daemon.network.guests
    with tcp_echo(guests[B], 5432), tcp_connect(guests[A], DB) as flow:
        assert daemon.terminate() == 0
        flow.settimeout(0.3)
        assert not echoes(flow)
    assert "Traceback" not in daemon.log.read_text()
    assert not daemon.socket.exists()


def test_restarted_daemon_starts_closed(ready: Client, daemon: Daemon, code: Path) -> None:
    daemon.kill()
    again = Daemon(daemon.network, code)
    try:
        again.wait_ready()
        listed = daemon.network.gateway.run("nft", "list", "ruleset")
        assert "chain forward" in listed
        assert "trusted" not in listed
    finally:
        again.close()


def test_garbage_from_the_client_ends_its_connection_only(daemon: Daemon) -> None:
    with socket.socket(socket.AF_UNIX) as raw:
        raw.connect(str(daemon.socket))
        raw.sendall(b"\xff" * 64)
        raw.settimeout(2)
        assert raw.recv(1) == b""
    assert eventually(lambda: _connects(daemon))


def _connects(daemon: Daemon) -> bool:
    try:
        Client(daemon.socket).close()
    except Exception:
        return False
    return True


@pytest.mark.parametrize("option", ["--socket", "--inspector-socket"])
def test_rejects_a_socket_whose_directory_is_not_there(network: Network, tmp_path: Path, option: str) -> None:
    paths = {"--socket": tmp_path / "s", "--inspector-socket": tmp_path / "i"} | {
        option: tmp_path / "no" / "s"
    }
    argv = ["ip", "netns", "exec", network.gateway.name, sys.executable, "-m", "filters.netd.main"]
    argv += ["--client-uid", "0", "--inspector-uid", "0", "--interface", "eth0"]
    argv += [str(word) for pair in paths.items() for word in pair]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)
    assert done.returncode == 1, done.stderr
    assert f"can't listen at {paths[option]}: No such file or directory; its directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_may_not_start_without_the_capability(network: Network, code: Path) -> None:
    argv = ["ip", "netns", "exec", network.gateway.name, "setpriv", "--reuid", str(UID), "--regid", str(UID)]
    argv += ["--clear-groups", "--bounding-set", "-all", "--"]
    argv += [sys._base_executable, "-m", "filters.netd.main"]
    argv += ["--socket", "/nonexistent/s", "--client-uid", "0", "--interface", "eth0"]
    done = subprocess.run(
        argv,
        env={"PYTHONPATH": str(code), "PATH": os.environ["PATH"], "PYTHONDONTWRITEBYTECODE": "1"},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
        timeout=20,
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
