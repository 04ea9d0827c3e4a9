"""Changes of policy as dialogues: a real database and audit record; the kernel is noted, not asked."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from authn.portmap import PortEntry
from filters.errors import NetdError, PolicyError
from filters.policy.compiled import CompiledPolicy
from filters.policy.parser import parse_policy
from gateway.audit.recorder import Recorder
from gateway.audit.spool import AuditSpool
from gateway.errors import GatewayError
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


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Dialogue], Gateway]:
    """Run one life of the gateway; the next one finds the same disk."""

    def live(dialogue: Dialogue) -> Gateway:
        async def whole() -> Gateway:
            gateway = Gateway(tmp_path)
            await gateway.changer.start(ONE, "policy.toml")
            await dialogue(gateway)
            gateway.store.close()
            gateway.spool.close()
            return gateway

        return asyncio.run(whole())

    return live


async def _nothing(_gateway: Gateway) -> None:
    pass


def test_what_was_in_force_is_in_force_after_a_restart(run: Callable[[Dialogue], Gateway]) -> None:
    async def apply(gateway: Gateway) -> None:
        change = await gateway.changer.apply(TWO, "two.toml", "uid 0", None)
        assert (change.number, change.sessions_cut) == (2, 1)

    run(apply)
    again = run(_nothing)
    assert again.in_force == "two"
    assert again.outcomes() == ["set up", "applied"]


@pytest.mark.parametrize(
    "text",
    [
        "schema = 2\n",
        "no toml",
        HEAD + '\n[[test]]\nflow = { from = "web", to = "db", service = "tcp/1" }\nexpect = "allow"\n',
    ],
)
def test_a_broken_file_disturbs_nothing(run: Callable[[Dialogue], Gateway], text: str) -> None:
    async def apply(gateway: Gateway) -> None:
        with pytest.raises(PolicyError):
            await gateway.changer.apply(text, "bad.toml", "uid 0", None)

    gateway = run(apply)
    assert (gateway.in_force, gateway.kernel.loaded, gateway.outcomes()) == ("one", ["one"], ["set up"])


def test_what_the_kernel_refuses_is_not_in_force_and_on_record(run: Callable[[Dialogue], Gateway]) -> None:
    async def apply(gateway: Gateway) -> None:
        gateway.kernel.refuses = True
        with pytest.raises(NetdError):
            await gateway.changer.apply(TWO, "two.toml", "uid 0", 60.0)
        assert gateway.changer.confirmation.pending is None

    gateway = run(apply)
    assert gateway.in_force == "one"
    assert gateway.outcomes() == ["set up", "to be confirmed", "refused by the kernel"]
    assert run(_nothing).in_force == "one"


def test_an_unconfirmed_policy_returns_by_itself(run: Callable[[Dialogue], Gateway]) -> None:
    async def wait(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", 60.0)
        gateway.clock.at += 59.9
        await gateway.changer.watch()
        assert gateway.in_force == "two"
        gateway.clock.at += 0.1
        await gateway.changer.watch()
        assert gateway.in_force == "one"
        await gateway.changer.watch()

    assert run(wait).outcomes() == ["set up", "to be confirmed", "returned"]


def test_a_confirmed_policy_stays_also_after_a_restart(run: Callable[[Dialogue], Gateway]) -> None:
    async def confirm(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", 60.0)
        await gateway.changer.confirm("uid 0")
        gateway.clock.at += 1000
        await gateway.changer.watch()
        assert gateway.in_force == "two"

    run(confirm)
    assert run(_nothing).in_force == "two"


def test_a_gateway_that_ends_on_probation_comes_back_with_the_former_policy(
    run: Callable[[Dialogue], Gateway],
) -> None:
    async def crash(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", 60.0)

    run(crash)
    again = run(_nothing)
    assert again.in_force == "one"
    assert again.kernel.loaded == ["one"]
    assert again.outcomes()[-1] == "returned"
    assert run(_nothing).in_force == "one"


def test_rejects_another_change_while_one_waits(run: Callable[[Dialogue], Gateway]) -> None:
    async def two_at_once(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", 60.0)
        with pytest.raises(GatewayError, match="policy confirm"):
            await gateway.changer.apply(THREE, "three.toml", "uid 0", None)
        assert gateway.in_force == "two"

    run(two_at_once)


def test_a_rollback_ends_the_probation(run: Callable[[Dialogue], Gateway]) -> None:
    async def rollback(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", 60.0)
        await gateway.changer.rollback(None, "uid 0")
        assert gateway.in_force == "one"
        await gateway.changer.apply(THREE, "three.toml", "uid 0", None)
        gateway.clock.at += 1000
        await gateway.changer.watch()
        assert gateway.in_force == "three"

    run(rollback)


def test_a_rollback_goes_to_the_one_before_or_to_a_named_one(run: Callable[[Dialogue], Gateway]) -> None:
    async def rollback(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", None)
        await gateway.changer.apply(THREE, "three.toml", "uid 0", None)
        await gateway.changer.rollback(None, "uid 0")
        assert gateway.in_force == "two"
        await gateway.changer.rollback("1", "uid 0")
        assert gateway.in_force == "one"
        wanted = gateway.changer.revisions.history()[2].revision[:12]
        await gateway.changer.rollback(wanted, "uid 0")
        assert gateway.in_force == "three"
        with pytest.raises(GatewayError, match="policy history"):
            await gateway.changer.rollback("99", "uid 0")

    gateway = run(rollback)
    assert gateway.outcomes().count("rolled back") == 3


def test_rejects_a_rollback_to_nothing(run: Callable[[Dialogue], Gateway]) -> None:
    async def rollback(gateway: Gateway) -> None:
        with pytest.raises(GatewayError, match="no earlier policy"):
            await gateway.changer.rollback(None, "uid 0")

    assert run(rollback).in_force == "one"


def test_changes_wait_for_each_other(run: Callable[[Dialogue], Gateway]) -> None:
    async def many(gateway: Gateway) -> None:
        texts = [HEAD + rule(f"r{at}", "web", "db", f"tcp/{at}", "allow") for at in range(1, 9)]
        await asyncio.gather(*(gateway.changer.apply(text, "x", "uid 0", None) for text in texts))

    gateway = run(many)
    history = gateway.spool.read(0)
    chain = [(one["unmapped"]["previous"], one["unmapped"]["revision"]) for one in history]
    assert all(one[1] == two[0] for one, two in itertools.pairwise(chain)), json.dumps(chain)


class SlowKernel(NotedKernel):
    """Takes its time over the first policy."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = asyncio.Event()

    async def load_policy(self, compiled: CompiledPolicy) -> tuple[int, ...]:
        if not self.asked.is_set():
            self.asked.set()
            await asyncio.sleep(0.3)
        return await super().load_policy(compiled)


def test_a_policy_that_is_applied_amid_the_start_is_not_overwritten(
    run: Callable[[Dialogue], Gateway], tmp_path: Path
) -> None:
    run(_nothing)

    async def whole() -> None:
        gateway = Gateway(tmp_path, kernel := SlowKernel())
        starting = asyncio.create_task(gateway.changer.start(ONE, "policy.toml"))
        await kernel.asked.wait()
        await gateway.changer.apply(TWO, "two.toml", "uid 0", None)
        await starting
        assert (gateway.in_force, gateway.kernel.loaded) == ("two", ["one", "two"])
        assert gateway.outcomes() == ["set up", "applied"]
        gateway.store.close()
        gateway.spool.close()

    asyncio.run(whole())


def test_the_history_says_how_a_probation_ended(run: Callable[[Dialogue], Gateway]) -> None:
    async def story(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", 60.0)
        assert gateway.store.revisions.history()[0].outcome == "to be confirmed"
        await gateway.changer.confirm("uid 0")
        await gateway.changer.apply(THREE, "three.toml", "uid 0", 60.0)
        gateway.clock.at += 60
        await gateway.changer.watch()
        outcomes = [one.outcome for one in gateway.store.revisions.history()]
        assert outcomes == ["returned", "not confirmed", "confirmed", "set up"]

    run(story)


def test_a_probation_that_a_former_version_confirmed_is_not_called_unconfirmed(
    run: Callable[[Dialogue], Gateway],
) -> None:
    async def story(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", 60.0)
        gateway.store._database.execute("DELETE FROM policy_pending")
        gateway.changer.confirmation.end()
        await gateway.changer.apply(THREE, "three.toml", "uid 0", None)
        assert gateway.store.revisions.history()[1].outcome == "to be confirmed"

    run(story)


def test_rejects_values_that_no_single_set_has(run: Callable[[Dialogue], Gateway]) -> None:
    wanted = next(iter(next(iter(parse_policy(HEAD).profiles.values())).pcrs.values()))

    async def story(gateway: Gateway) -> None:
        mixed = TWO.replace(f"ref:{wanted}", "ref:another")
        with pytest.raises(PolicyError, match="no reference set here has all of another, "):
            await gateway.changer.apply(mixed, "two.toml", "uid 0", None)

    run(story)


def test_rejects_a_reference_value_that_no_set_has_and_changes_nothing(
    run: Callable[[Dialogue], Gateway],
) -> None:
    wanted = next(iter(next(iter(parse_policy(HEAD).profiles.values())).pcrs.values()))

    async def story(gateway: Gateway) -> None:
        mistyped = TWO.replace(f"ref:{wanted}", f"ref:{wanted}x")
        with pytest.raises(
            PolicyError, match=rf"no reference set here has '{wanted}x'; expected some of .*did you mean"
        ):
            await gateway.changer.apply(mistyped, "two.toml", "uid 0", None)
        assert (gateway.in_force, gateway.outcomes()) == ("one", ["set up"])

    run(story)


OTHER_VERSIONS = ONE.replace("allow", "allow-in-a-later-version")
TOO_FAST = ONE.replace('max_quote_age = "3s"', 'max_quote_age = "100ms"')


def written_by_another_version(directory: Path, number: int, text: str = OTHER_VERSIONS) -> None:
    store = Store(directory / "state.db")
    store._database.execute("UPDATE policy SET text = ? WHERE number = ?", (text, number))
    store.close()


@pytest.mark.parametrize("text", [OTHER_VERSIONS, TOO_FAST])
def test_a_stored_policy_that_cant_be_taken_up_leaves_none_in_force_until_one_is_applied(
    run: Callable[[Dialogue], Gateway], tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str
) -> None:
    assert text != ONE
    run(_nothing)
    written_by_another_version(tmp_path, 1, text)

    async def closed(gateway: Gateway) -> None:
        assert (gateway.in_force, gateway.kernel.loaded) == ("", [""])
        assert "revision 1:" in gateway.changer.closed or "max_quote_age" in gateway.changer.closed
        await asyncio.sleep(0.05)
        assert gateway.outcomes() == ["set up", "closed"]

    run(closed)
    assert "quotegate policy apply" in caplog.text

    async def mended(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", None)
        assert (gateway.in_force, gateway.changer.closed) == ("two", "")

    run(mended)
    assert run(_nothing).in_force == "two"


def test_a_former_policy_that_does_not_parse_leaves_none_in_force_when_it_should_return(
    run: Callable[[Dialogue], Gateway], tmp_path: Path
) -> None:
    async def unconfirmed(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", 60.0)
        written_by_another_version(tmp_path, 1)
        gateway.clock.at += 60
        await gateway.changer.watch()
        assert (gateway.in_force, gateway.kernel.loaded) == ("", ["one", "two", ""])
        await asyncio.sleep(0.05)

    run(unconfirmed)
    again = run(_nothing)  # nobody confirmed the other one meanwhile
    assert again.in_force == ""
    assert again.changer.closed


@pytest.mark.parametrize(("of", "what"), [("port", "p9"), ("mac", "52:54:00:99:99:99"), ("ip", "10.77.0.99")])
def test_rejects_a_peer_elsewhere_than_the_port_map_has_it(
    run: Callable[[Dialogue], Gateway], of: str, what: str
) -> None:
    web = parse_policy(HEAD).peers["web"]

    async def story(gateway: Gateway) -> None:
        moved = TWO.replace(f'{of} = "{getattr(web, of)}"', f'{of} = "{what}"')
        assert moved != TWO
        with pytest.raises(
            PolicyError, match=f"peer.web: expected the place .*{web.mac}.*got .*{what}"
        ) as refused:
            await gateway.changer.apply(moved, "two.toml", "uid 0", None)
        assert refused.value.code == "misplaced-peer"
        assert (gateway.in_force, gateway.outcomes()) == ("one", ["set up"])

    run(story)


def test_a_peer_that_the_port_map_does_not_have_is_a_warning(run: Callable[[Dialogue], Gateway]) -> None:
    """Its words may be written before its machine is issued a place."""
    place = 'port = "p9", mac = "52:54:00:99:99:99", ip = "10.77.0.99"'

    async def story(gateway: Gateway) -> None:
        name = next(iter(parse_policy(HEAD).profiles))
        more = TWO + f'\n[peer.webb]\nmatch = {{ {place} }}\nprofile = "{name}"\n'
        change = await gateway.changer.apply(more, "two.toml", "uid 0", None)
        said = "peer.webb: the signed port map has no such peer, so it can't connect; did you mean web?"
        assert said in change.warnings

    run(story)


def test_two_trials_of_one_flow_hold_no_change_up(run: Callable[[Dialogue], Gateway]) -> None:
    """What broke in the thread that checks was never told, and the lock stayed taken."""
    trials = [rule(name, "web", "db", "tcp/1", "deny", 'mode = "audit"') for name in ("first", "second")]

    async def story(gateway: Gateway) -> None:
        change = await asyncio.wait_for(
            gateway.changer.apply(HEAD + "".join(trials), "trials.toml", "uid 0", None), 10
        )
        assert "second never decides" in change.warnings[0]

    run(story)


@contextlib.contextmanager
def no_writes(gateway: Gateway) -> Iterator[None]:
    database = gateway.store._database
    database.execute("PRAGMA query_only=1")
    yield
    database.execute("PRAGMA query_only=0")


@pytest.mark.parametrize("confirm_within_s", [None, 60.0])
def test_a_policy_that_cant_be_stored_is_on_record_as_not_in_force(
    run: Callable[[Dialogue], Gateway], confirm_within_s: float | None
) -> None:
    async def story(gateway: Gateway) -> None:
        with no_writes(gateway), pytest.raises(GatewayError) as caught:
            await gateway.changer.apply(TWO, "two.toml", "uid 0", confirm_within_s)
        assert caught.value.code == "store-failed"
        assert gateway.in_force == "one"
        assert gateway.changer.confirmation.pending is None
        with pytest.raises(GatewayError, match="readonly"):  # which ends the service
            gateway.store.check()

    gateway = run(story)
    assert gateway.outcomes()[-1] == "could not be stored"
    assert run(_nothing).in_force == "one"


def test_a_full_disk_is_named_and_leaves_the_former_policy(run: Callable[[Dialogue], Gateway]) -> None:
    """It ends the transaction by itself; that there was none to take back would hide the cause."""

    async def story(gateway: Gateway) -> None:
        database = gateway.store._database
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count={pages}")
        with pytest.raises(GatewayError, match="disk is full"):
            await gateway.changer.apply(f"{TWO}# {'x' * 100_000}\n", "two.toml", "uid 0", None)
        assert gateway.in_force == "one"
        database.execute("PRAGMA max_page_count=100000")
        await gateway.changer.apply(TWO, "two.toml", "uid 0", None)

    assert run(story).in_force == "two"


def test_a_confirmation_that_cant_be_stored_can_be_given_again(run: Callable[[Dialogue], Gateway]) -> None:
    async def story(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", 60.0)
        with no_writes(gateway), pytest.raises(GatewayError, match="readonly"):
            await gateway.changer.confirm("uid 0")
        await gateway.changer.confirm("uid 0")
        gateway.clock.at += 1000
        await gateway.changer.watch()

    assert run(story).in_force == "two"
    assert run(_nothing).in_force == "two"


@dataclass
class OtherKernel(NotedKernel):
    """Takes an empty policy alone."""

    code: str = "kernel"

    async def load_policy(self, compiled: CompiledPolicy) -> tuple[int, ...]:
        if compiled.allowed:
            raise NetdError(self.code, "expected at most 2 peers")
        return await super().load_policy(compiled)


@pytest.mark.parametrize("on_probation", [False, True])
def test_a_stored_policy_that_the_kernel_refuses_leaves_none_in_force_and_a_way_out(
    run: Callable[[Dialogue], Gateway], tmp_path: Path, on_probation: bool
) -> None:
    async def probation(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", 60.0)

    run(probation if on_probation else _nothing)

    async def whole() -> None:
        gateway = Gateway(tmp_path, OtherKernel())
        await gateway.changer.start(ONE, "policy.toml")
        assert (gateway.in_force, gateway.kernel.loaded) == ("", [""])
        assert gateway.changer.closed.startswith("expected at most 2 peers; apply one that")
        await gateway.changer.apply("schema = 1\n", "none.toml", "uid 0", None)
        assert gateway.changer.closed == ""
        gateway.store.close()
        gateway.spool.close()

    asyncio.run(whole())


def test_a_netd_that_is_gone_is_no_fault_of_the_stored_policy(
    run: Callable[[Dialogue], Gateway], tmp_path: Path
) -> None:
    run(_nothing)
    gateway = Gateway(tmp_path, OtherKernel(code="gone"))
    with pytest.raises(NetdError):
        asyncio.run(gateway.changer.start(ONE, "policy.toml"))
    assert gateway.changer.closed == ""
