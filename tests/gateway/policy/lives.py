"""Lives of a gateway on a directory: a real database and audit record; the kernel is noted, not asked."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

from authn.portmap import PortEntry
from filters.errors import NetdError
from filters.policy.compiled import CompiledPolicy
from filters.policy.parser import parse_policy
from gateway.audit.recorder import Recorder
from gateway.audit.spool import AuditSpool
from gateway.policy.changer import PolicyChanger
from gateway.policy.holder import PolicyHolder
from gateway.store.store import Store
from tests.filters.policy.texts import HEAD, rule

ONE = HEAD + rule("one", "web", "db", "tcp/1", "allow")
TWO = HEAD + rule("two", "web", "db", "tcp/2", "allow")
THREE = HEAD + rule("three", "web", "db", "tcp/3", "allow")


@dataclass
class NotedKernel:
    """The edge: notes what would be loaded, refuses when told to."""

    loaded: list[str] = field(default_factory=list)
    refuses: bool = False

    async def load_policy(self, compiled: CompiledPolicy) -> tuple[int, ...]:
        if self.refuses:
            raise NetdError("kernel", "no memory")
        self.loaded.append(compiled.allowed[0].rule if compiled.allowed else "")
        return (len(self.loaded),)


@dataclass
class HandClock:
    at: float = 100.0

    def now(self) -> float:
        return self.at

    def wall(self) -> float:
        return 1e9 + self.at


@dataclass
class Gateway:
    """One life of a gateway on a directory."""

    directory: Path
    kernel: NotedKernel = field(default_factory=NotedKernel)
    clock: HandClock = field(default_factory=HandClock)

    def __post_init__(self) -> None:
        head = parse_policy(HEAD)
        names = {name for one in head.profiles.values() for name in one.pcrs.values()}
        places = [PortEntry(one.name, one.port, one.mac, one.ip, one.name) for one in head.peers.values()]
        self.holder = PolicyHolder("eth0", IPv4Address("10.77.0.1"), 7443, 200, [names, {"another"}], places)
        self.store = Store(self.directory / "state.db")
        self.spool = AuditSpool(self.directory / "audit.db")
        recorder = Recorder(self.spool, self.clock, "lab/gw", lambda: self.holder.policy.revision)
        self.changer = PolicyChanger(
            self.holder,
            self.store.revisions,
            self.kernel,
            recorder,
            self.clock,
            self._revoked,  # type: ignore[arg-type]
        )

    async def _revoked(self, lease_ids: tuple[int, ...]) -> int:
        return len(lease_ids)

    @property
    def in_force(self) -> str:
        rules = self.holder.policy.rules
        return rules[0].id if rules else ""

    def outcomes(self) -> list[str]:
        events = [one["unmapped"] for one in self.spool.read(0)]
        return [one.get("outcome", "closed") for one in events]


Dialogue = Callable[[Gateway], Awaitable[None]]


async def nothing(_gateway: Gateway) -> None:
    pass
