"""A gateway with one NIC and two guests on isolated bridge ports, in namespaces of their own.

Every object is a network namespace named `qg-t…`; removing those removes everything. The compiled ruleset
is loaded and its sets are changed by the `nft` command only: no code of ours stands between test and kernel.
"""

import json
import os
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from filters.policy.compiled import CompiledPolicy
from filters.reason import DropReason
from filters.ruleset.compiler import compile_policy_update, compile_ruleset
from filters.ruleset.features import Features
from filters.ruleset.names import COUNTERS
from filters.ruleset.sysctls import GATEWAY_SYSCTLS, GATEWAY_SYSCTLS_IF_PRESENT
from tests.filters.ruleset import policies
from tests.inside import enter

A, B = 1, 2  # the guests' numbers in `policies`
GATEWAY_MAC = "52:54:00:aa:00:fe"
T = TypeVar("T")

FEATURES = Features(native_queue=False, timeout_update=False, handover=True)


def run(*argv: str, text: str | None = None) -> str:
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout


class Namespace:
    """A namespace and one thread that lives in it: sockets made by that thread belong to it."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=enter, initargs=(name,))

    def call(self, function: Callable[..., T], *args: object) -> T:
        return self._thread.submit(function, *args).result(timeout=30)

    def ip(self, *argv: str) -> None:
        run("ip", "-n", self.name, *argv)

    def run(self, *argv: str, text: str | None = None) -> str:
        return run("ip", "netns", "exec", self.name, *argv, text=text)

    def sysctl(self, path: str, value: str, *, optional: bool = False) -> None:
        def write() -> None:
            file = Path("/proc/sys") / path
            if file.exists() or not optional:
                file.write_text(value)

        self.call(write)

    def close(self) -> None:
        self._thread.shutdown()
        run("ip", "netns", "del", self.name)


def sweep() -> None:
    """Remove what a killed run of these tests has left; a run that still lives is left alone."""
    for path in Path("/run/netns").glob("qg-t*"):
        ours = re.fullmatch(r"qg-t(\d+)-(?:host|gw|p\d+)", path.name)
        if ours and not Path(f"/proc/{ours[1]}").exists():
            subprocess.run(("ip", "netns", "del", path.name), capture_output=True, check=False, timeout=30)


class Network:
    """Host, gateway and guests; `load` gives each test a fresh table and an empty conntrack."""

    def __init__(self) -> None:
        sweep()
        prefix = f"qg-t{os.getpid()}"
        self._spaces: list[Namespace] = []
        try:
            self.host = self._space(f"{prefix}-host")
            self.gateway = self._space(f"{prefix}-gw")
            self.guests = {number: self._space(f"{prefix}-p{number}") for number in (A, B)}
            self._connect()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        while self._spaces:
            self._spaces.pop().close()

    def _space(self, name: str) -> Namespace:
        space = Namespace(name)
        self._spaces.append(space)
        return space

    def _connect(self) -> None:
        self.host.sysctl("net/bridge/bridge-nf-call-iptables", "0", optional=True)
        for which in ("all", "default"):  # no neighbour discovery among the packets that are counted
            self.host.sysctl(f"net/ipv6/conf/{which}/disable_ipv6", "1", optional=True)
        self.host.ip("link", "add", "br0", "type", "bridge", "stp_state", "0", "mcast_snooping", "0")
        self.host.ip("link", "set", "br0", "up")
        self._plug("gw", self.gateway, GATEWAY_MAC, f"{policies.GATEWAY}/24")
        for number, guest in self.guests.items():
            port = f"p{number}"
            self._plug(port, guest, policies.mac(number), f"{policies.address(number)}/24")
            self.host.run("bridge", "link", "set", "dev", port, "isolated", "on")
            guest.ip("route", "add", "default", "via", str(policies.GATEWAY))
        for path, value in GATEWAY_SYSCTLS:
            self.gateway.sysctl(path.format(interface="eth0"), value)
        for path, value in GATEWAY_SYSCTLS_IF_PRESENT:
            self.gateway.sysctl(path.format(interface="eth0"), value, optional=True)
        for number in self.guests:
            where = ("lladdr", policies.mac(number), "dev", "eth0", "nud", "permanent")
            self.gateway.ip("neigh", "replace", str(policies.address(number)), *where)

    def _plug(self, port: str, space: Namespace, mac: str, address: str) -> None:
        self.host.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", space.name)
        self.host.ip("link", "set", port, "master", "br0", "up")
        # a spoofed frame must not move a guest's address to another port
        self.host.run("bridge", "link", "set", "dev", port, "learning", "off", "flood", "off")
        self.host.run("bridge", "fdb", "replace", mac, "dev", port, "master", "static")
        space.sysctl("net/ipv6/conf/eth0/disable_ipv6", "1", optional=True)  # no noise; the gateway undoes it
        space.ip("link", "set", "eth0", "address", mac, "up")
        space.ip("address", "add", address, "dev", "eth0")

    # ---- the kernel's state, by the nft command ----

    def load(self, policy: CompiledPolicy) -> None:
        self.nft(compile_ruleset(policy, FEATURES))
        self.flush_conntrack()

    def update(self, policy: CompiledPolicy) -> None:
        self.nft(compile_policy_update(policy, FEATURES))

    def nft(self, text: str) -> str:
        return self.gateway.run("nft", "-f", "-", text=text)

    def add(self, name: str, *elements: str) -> None:
        self.nft(f"add element inet quotegate {name} {{ {', '.join(elements)} }}\n")

    def delete(self, name: str, *elements: str) -> None:
        self.nft(f"delete element inet quotegate {name} {{ {', '.join(elements)} }}\n")

    def quarantine(self, address: str) -> None:
        """Do what netd does: nobody is trusted and in quarantine."""
        self.nft(
            f"delete element inet quotegate trusted {{ {address} }}\n"
            f"add element inet quotegate quarantined {{ {address} }}\n"
        )

    def trust(self, *numbers: int, timeout: str = "30s") -> None:
        self.add("trusted", *(f"{policies.address(number)} timeout {timeout}" for number in numbers))

    def authorize(self, timeout: str = "30s") -> None:
        self.nft(
            f'add element inet quotegate authority {{ "eth0" timeout {timeout} }}\n'
            'add element inet quotegate authority_had { "eth0" }\n'
        )

    def lease(self, service: str, lease_id: int = 7, timeout: str = "30s") -> None:
        """Grant A -> B, e.g. `tcp . 5432` or `icmp`."""
        pair = f"{policies.address(A)} . {policies.address(B)}"
        name, key = ("lease_icmp", pair) if service == "icmp" else ("lease", f"{pair} . {service}")
        self.nft(
            f"add element inet quotegate {name} {{ {key} timeout {timeout} : {lease_id} }}\n"
            f"add element inet quotegate live {{ {lease_id} timeout {timeout} }}\n"
        )

    def drops(self) -> dict[DropReason, int]:
        """Return the reasons that have counted, with their packets."""
        listed = json.loads(self.gateway.run("nft", "-j", "list", "counters", "table", "inet", "quotegate"))
        counters = [entry["counter"] for entry in listed["nftables"] if "counter" in entry]
        return {COUNTERS[one["name"]]: one["packets"] for one in counters if one["packets"]}

    def flush_conntrack(self) -> None:
        self.gateway.run("conntrack", "-F")


@contextmanager
def wired() -> Iterator[Network]:
    """Make a network for a while; without root this is a skip."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    network = Network()
    try:
        yield network
    finally:
        network.close()
