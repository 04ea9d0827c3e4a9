"""Changes of policy that can't be kept, and a kernel that takes none: what is in force then, and what is on record."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from filters.errors import NetdError
from filters.policy.compiled import CompiledPolicy
from gateway.errors import GatewayError
from tests.gateway.policy.lives import ONE, TWO, Dialogue, Gateway, NotedKernel, nothing


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
    assert run(nothing).in_force == "one"


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
    assert run(nothing).in_force == "two"


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

    run(probation if on_probation else nothing)

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
    run(nothing)
    gateway = Gateway(tmp_path, OtherKernel(code="gone"))
    with pytest.raises(NetdError):
        asyncio.run(gateway.changer.start(ONE, "policy.toml"))
    assert gateway.changer.closed == ""
