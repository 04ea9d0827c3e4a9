"""The scene of a run: who is who, the gateway's control API, the machines."""

import json
import time
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from gateway.authority.gate import create_grant
from gateway.cli.client import ApiClient
from gateway.cli.demo.drawing import Cast
from gateway.cli.demo.pieces import Content
from gateway.cli.demo.stage import Program, Stage
from gateway.cli.demo.story import Story
from vmhost.lab.provisioning import load_administrator_key
from vmhost.monitor.client import ask
from vmhost.names import Lab
from vmhost.spec import LabSpec

S = TypeVar("S", bound=Stage)


@dataclass(slots=True)
class Scene(Generic[S]):
    """What the steps act on. `see` is the stage: they ask and move machines through it alone."""

    spec: LabSpec
    cast: Cast
    api: ApiClient
    see: S
    story: Story
    granted: list[str] = field(default_factory=list)

    @property
    def lab(self) -> Lab:
        """The lab."""
        return self.spec.lab

    @property
    def a(self) -> str:
        """Who asks."""
        return self.cast.a

    @property
    def b(self) -> str:
        """Who is asked."""
        return self.cast.b

    @property
    def request_port(self) -> int:
        """The port that A has to ask for."""
        return self.cast.request_port

    @property
    def service(self) -> str:
        """The service that A asks for."""
        return f"tcp/{self.request_port}"

    @property
    def content(self) -> Content:
        """What A sends."""
        return Content.of(self.cast.content)

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

    def pids(self, machine: str) -> dict[str, int]:
        """The pids of a machine's processes, as the monitor has them."""
        status = ask(self.lab, "status")
        found: dict[str, int] = (status["peers"].get(machine) or status["gateway"])["pids"]
        return found

    def gateway_starts(self) -> int:
        """How often the monitor has started the gateway."""
        return int(ask(self.lab, "status")["gateway"]["starts"])

    def open(self) -> str:
        """Open A's session with B through A's agent; return its id, empty when it is refused or the agent is away."""
        said = self.see.run(self.a, "ask", self.see.agent_socket(self.a), self.b, self.service)
        answer = json.loads(said) if said.startswith("{") else {}
        if answer.get("granted"):
            self.granted.append(answer["session_id"])
        return str(answer.get("session_id", ""))

    def flow(self) -> Program:
        """Open a session and keep an established flow from A to B going."""
        self.story.until("A has a session with B", self.open)
        interval = self.see.pace.chatter_ms
        chatter = self.see.start(self.a, "chatter", self.ip(self.b), self.request_port, interval)
        self.story.check(chatter.first_line().startswith("connected"), "an established flow runs from A to B")
        time.sleep(0.1)
        return chatter
