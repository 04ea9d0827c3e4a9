"""Changes of policy as dialogues: a real database and audit record; the kernel is noted, not asked."""

import asyncio
import itertools
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from filters.errors import NetdError, PolicyError
from filters.policy.compiled import CompiledPolicy
from filters.policy.parser import parse_policy
from gateway.errors import GatewayError
from gateway.store.store import Store
from tests.filters.policy.texts import HEAD, rule
from tests.gateway.policy.lives import ONE, THREE, TWO, Dialogue, Gateway, NotedKernel, nothing


def test_what_was_in_force_is_in_force_after_a_restart(run: Callable[[Dialogue], Gateway]) -> None:
    async def apply(gateway: Gateway) -> None:
        change = await gateway.changer.apply(TWO, "two.toml", "uid 0", None)
        assert (change.number, change.sessions_cut) == (2, 1)

    run(apply)
    again = run(nothing)
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
def test_a_broken_file_disturbsnothing(run: Callable[[Dialogue], Gateway], text: str) -> None:
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
    assert run(nothing).in_force == "one"


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
    assert run(nothing).in_force == "two"


def test_a_gateway_that_ends_on_probation_comes_back_with_the_former_policy(
    run: Callable[[Dialogue], Gateway],
) -> None:
    async def crash(gateway: Gateway) -> None:
        await gateway.changer.apply(TWO, "two.toml", "uid 0", 60.0)

    run(crash)
    again = run(nothing)
    assert again.in_force == "one"
    assert again.kernel.loaded == ["one"]
    assert again.outcomes()[-1] == "returned"
    assert run(nothing).in_force == "one"


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


def test_rejects_a_rollback_tonothing(run: Callable[[Dialogue], Gateway]) -> None:
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
    run(nothing)

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


def test_rejects_a_reference_value_that_no_set_has_and_changesnothing(
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
    run(nothing)
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
    assert run(nothing).in_force == "two"


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
    again = run(nothing)  # nobody confirmed the other one meanwhile
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
