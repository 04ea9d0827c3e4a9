"""The scene of a run: names, addresses, ports and contents drawn afresh, the lab, the tools."""

import json
import os
import random
import socket
import struct
import subprocess
import time
from dataclasses import dataclass
from ipaddress import IPv4Network
from typing import Any

from gateway.authority.gate import create_grant
from gateway.cli.client import ApiClient
from gateway.cli.demo.observe import Observer
from gateway.cli.demo.story import Story
from gateway.rpc import encode
from vmhost.lab.defaults import PROFILE_TEXT, make_spec, peer_text, place
from vmhost.lab.provisioning import load_administrator_key
from vmhost.monitor.client import ask
from vmhost.names import Lab
from vmhost.spec import LabSpec

NAMES = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "iris", "juniper")
SLACK_S = 0.050


@dataclass(slots=True)
class Scene:
    """A requests services of B; C looks on. `request_port` needs a request, `demand_port` opens by its first packet."""

    lab: Lab
    spec: LabSpec
    a: str
    b: str
    c: str
    request_port: int
    demand_port: int
    forbidden_port: int
    inspected_port: int
    content: bytes
    api: ApiClient
    see: Observer
    story: Story
    granted: list[str]

    @property
    def interval(self) -> float:
        """T, in seconds."""
        return self.spec.beacon_interval_ms / 1000

    @property
    def service(self) -> str:
        """The service that A asks for."""
        return f"tcp/{self.request_port}"

    def ip(self, peer: str) -> str:
        """A peer's address."""
        return str(self.spec.machine(peer).ip)

    def peer(self, name: str) -> dict[str, Any]:
        """What the gateway says of a peer."""
        return next(one for one in self.api.get("/v1/peers")["peers"] if one["name"] == name)

    def state(self, name: str) -> str:
        """A peer's state."""
        return str(self.peer(name)["state"])

    def all_trusted(self) -> bool:
        """Tell whether everybody is trusted."""
        return all(one["state"] == "trusted" for one in self.api.get("/v1/peers")["peers"])

    def explain(self, source: str, destination: str, service: str) -> dict[str, Any]:
        """Ask the gateway to explain a flow."""
        return self.api.post("/v1/explain", **{"from": source, "to": destination, "service": service})

    def grant_authority(self, seconds: float = 3600) -> None:
        """Sign a grant as the administrator and hand it in."""
        sequence = self.api.get("/v1/authority")["sequence"] + 1
        now, key = time.time(), load_administrator_key(self.lab)
        grant = create_grant(sequence, now + seconds, key, not_before=now)
        self.api.post("/v1/authority/grant", grant=grant.decode())

    def events(self, code: str) -> list[dict[str, Any]]:
        """All recorded events of one kind."""
        found: list[dict[str, Any]] = []
        after = 0
        while batch := self.api.get(f"/v1/events?after={after}")["events"]:
            after = batch[-1]["metadata"]["sequence"]
            found += [one["unmapped"] for one in batch if one["metadata"]["event_code"] == code]
        return found

    def gateway_pids(self) -> list[int]:
        """The pids of the gateway's processes."""
        return list(ask(self.lab, "status")["gateway"]["pids"].values())

    def agent_pid(self, peer: str) -> int:
        """The pid of a peer's agent."""
        return int(ask(self.lab, "status")["peers"][peer]["pids"][f"agent-{peer}"])

    def open(self) -> str:
        """Open A's session with B through A's agent; return its id, empty when it is refused or the agent is away."""
        try:
            answer = self._ask_agent()
        except (OSError, struct.error):  # the agent's machine is just being restarted
            return ""
        if answer.get("granted"):
            self.granted.append(answer["session_id"])
        return str(answer.get("session_id", ""))

    def _ask_agent(self) -> dict[str, Any]:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(str(self.lab.agent_socket(self.a)))
            sock.sendall(encode({"op": "open", "peer": self.b, "service": self.service}))
            (length,) = struct.unpack(">I", sock.recv(4, socket.MSG_WAITALL))
            answer: dict[str, Any] = json.loads(sock.recv(length, socket.MSG_WAITALL))
        return answer

    def flow(self) -> "subprocess.Popen[str]":
        """Open a session and keep an established flow from A to B going."""
        self.story.until("A has a session with B", self.open)
        chatter = self.see.spawn(self.a, "chatter", self.ip(self.b), self.request_port, 2)
        assert chatter.stdout is not None  # noqa: S101 - it is a pipe
        self.story.check(
            chatter.stdout.readline().startswith("connected"), "an established flow runs from A to B"
        )
        time.sleep(0.1)
        return chatter


def draw(lab: Lab, seed: int) -> tuple[LabSpec, dict[str, Any]]:
    """Draw a run from its seed: a spec and the rest of the scene."""
    rng = random.Random(seed)  # noqa: S311 - variety, not secrecy
    a, b, c = rng.sample(NAMES, 3)
    ports = rng.sample(range(1024, 60000), 4)
    network = IPv4Network(f"10.{rng.randrange(64, 200)}.{rng.randrange(256)}.0/24")
    hosts = rng.sample(list(network.hosts())[1:], 3)
    peers = [place(name, ip, f"port-{name}") for name, ip in zip((a, b, c), hosts, strict=True)]
    rules = f"""
[[rule]]
id = "asked-for"
from = "{a}"
to = "{b}"
service = "tcp/{ports[0]}"
action = "allow"

[[rule]]
id = "first-packet"
from = "{a}"
to = "{b}"
service = "tcp/{ports[1]}"
action = "allow"
open = "on-demand"

[[rule]]
id = "inspected"
from = "{a}"
to = "{b}"
service = "tcp/{ports[3]}"
action = "allow"
open = "on-demand"
inspect = {{ protocol = "http", detectors = ["secrets", "malware"] }}
"""
    spec = make_spec(lab, peers, PROFILE_TEXT + "".join(map(peer_text, peers)) + rules, network)
    words = {
        "a": a,
        "b": b,
        "c": c,
        "request_port": ports[0],
        "demand_port": ports[1],
        "forbidden_port": ports[2],
        "inspected_port": ports[3],
    }
    return spec, {**words, "content": rng.randbytes(rng.randrange(1 << 20, 4 << 20))}


def pick_seed(given: int | None) -> int:
    """Return the given seed or a fresh one."""
    return given if given is not None else int.from_bytes(os.urandom(4), "big")
