"""Authority through restarts, reboots and clocks that were set: nothing prolongs a grant."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.signing import key_id
from filters.errors import NetdError
from filters.policy.evaluator import AuthorityState
from gateway.audit.recorder import Recorder
from gateway.audit.spool import AuditSpool
from gateway.authority.gate import AuthorityGate, create_grant
from gateway.daemon.authority_keeper import AuthorityKeeper
from gateway.errors import GatewayError
from gateway.store.store import Store

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
VALID, EXPIRED, ABSENT = AuthorityState.VALID, AuthorityState.EXPIRED, AuthorityState.ABSENT


class Hands:
    """Clocks in the test's hands."""

    def __init__(self) -> None:
        self.wall_s, self.boot_s = 1_000_000.0, 10.0

    def go_on(self, seconds: float) -> None:
        self.wall_s, self.boot_s = self.wall_s + seconds, self.boot_s + seconds

    def set_wall(self, by_s: float) -> None:
        self.wall_s += by_s

    def reboot(self) -> None:
        self.boot_s = 1.0

    def now(self) -> float:
        return self.boot_s

    def wall(self) -> float:
        return self.wall_s

    def grant(self, sequence: int, seconds: float = 100.0) -> bytes:
        return create_grant(sequence, self.wall_s + seconds, KEY, not_before=self.wall_s)


class Told:
    """Stands for kernel and broker: what they are told, in order."""

    book: tuple[()] = ()

    def __init__(self) -> None:
        self.until: list[float | None] = []
        self.closed: list[str] = []

    async def authority(self, expires_at: float | None) -> None:
        self.until.append(expires_at)

    async def close(self, _sessions: list[Any], reason: str) -> None:
        self.closed.append(reason)


class Life:
    """One life of the service: a keeper over the real store and spool. Clocks go on from life to life."""

    def __init__(self, directory: Path, clock: Hands, boot_id: str) -> None:
        self.told: Any = Told()
        self.store, self.spool = Store(directory / "state.db"), AuditSpool(directory / "audit.db")
        self.recorder = Recorder(self.spool, clock, "lab/gateway", lambda: "r")
        gate = AuthorityGate({key_id(PUBLIC): PUBLIC})
        self.keeper = AuthorityKeeper(gate, self.store, self.told, self.recorder, clock, self.told, boot_id)

    @property
    def state(self) -> AuthorityState:
        return self.keeper.state()


Script = Callable[[Life], Awaitable[None]]


def live(directory: Path, clock: Hands, script: Script, boot_id: str = "boot-1") -> list[str]:
    """Live one life of the service; return every outcome on record after it."""

    async def go() -> list[str]:
        life = Life(directory, clock, boot_id)
        await life.keeper.start()
        await script(life)
        await life.recorder.flush()
        outcomes = [one["unmapped"]["outcome"] for one in life.spool.read(0)]
        life.spool.close()
        life.store.close()
        return outcomes

    return asyncio.run(go())


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def granted(tmp_path: Path, clock: Hands) -> Path:
    """A first life in which a grant for 100 s was taken up."""

    async def first(life: Life) -> None:
        assert (life.state, life.told.until) == (ABSENT, [])
        await life.keeper.grant(clock.grant(1), "uid 0")
        assert (life.state, life.told.until) == (VALID, [110.0])

    assert live(tmp_path, clock, first) == ["granted"]
    return tmp_path


def test_a_grant_that_runs_out_closes_everything_and_is_recorded(granted: Path, clock: Hands) -> None:
    async def second(life: Life) -> None:
        assert life.told.until == [110.0]
        clock.go_on(101)
        await life.keeper.watch()
        await life.keeper.watch()
        assert (life.state, life.told.closed) == (EXPIRED, ["authority-expired"])

    assert live(granted, clock, second) == ["granted", "expired"]


def test_a_clock_set_back_prolongs_nothing(granted: Path, clock: Hands) -> None:
    async def second(life: Life) -> None:
        clock.set_wall(-50_000)
        clock.go_on(101)
        await life.keeper.watch()
        assert life.state is EXPIRED

    assert live(granted, clock, second) == ["granted", "expired"]


def test_a_clock_set_back_while_the_service_was_away_prolongs_nothing(granted: Path, clock: Hands) -> None:
    clock.set_wall(-50_000)

    async def second(life: Life) -> None:
        assert (life.state, life.told.until) == (VALID, [110.0])
        clock.go_on(101)
        assert life.state is EXPIRED

    live(granted, clock, second)


def test_a_clock_set_back_across_a_reboot_ends_the_grant(granted: Path, clock: Hands) -> None:
    async def second(life: Life) -> None:
        clock.go_on(20)
        await life.keeper.watch()  # what time it was is kept every ten seconds

    live(granted, clock, second)
    clock.set_wall(-15)
    clock.reboot()

    async def third(life: Life) -> None:
        assert (life.state, life.told.until[-1]) == (EXPIRED, 0.0)

    assert live(granted, clock, third, "boot-2") == ["granted", "expired"]


def test_a_grant_survives_a_reboot_for_the_time_it_has_left(granted: Path, clock: Hands) -> None:
    clock.go_on(60)
    clock.reboot()

    async def second(life: Life) -> None:
        assert (life.state, life.told.until) == (VALID, [41.0])

    live(granted, clock, second, "boot-2")


def test_a_clock_set_forward_and_back_ends_the_grant_for_good(granted: Path, clock: Hands) -> None:
    async def second(life: Life) -> None:
        clock.set_wall(50_000)
        await life.keeper.watch()
        assert life.told.until[-1] == 0.0  # the kernel's own time-out would have come too late
        clock.set_wall(-50_000)
        assert life.state is EXPIRED

    live(granted, clock, second)

    async def later(life: Life) -> None:
        assert (life.state, life.told.until) == (EXPIRED, [0.0])

    for boot_id in ("boot-1", "boot-2"):
        assert live(granted, clock, later, boot_id) == ["granted", "expired"]


def test_what_ran_out_while_the_service_was_away_is_recorded_once(granted: Path, clock: Hands) -> None:
    clock.go_on(200)

    async def later(life: Life) -> None:
        assert life.state is EXPIRED

    for _ in range(2):
        assert live(granted, clock, later) == ["granted", "expired"]


def test_a_used_sequence_is_remembered_by_the_next_life(granted: Path, clock: Hands) -> None:
    async def second(life: Life) -> None:
        await life.keeper.revoke("uid 0")

    live(granted, clock, second)

    async def third(life: Life) -> None:
        assert (life.state, life.told.until) == (ABSENT, [])
        with pytest.raises(GatewayError) as caught:
            await life.keeper.grant(clock.grant(1), "uid 0")
        assert caught.value.code == "replayed"

    assert live(granted, clock, third) == ["granted", "revoked"]


def test_a_revocation_overtakes_a_grant_that_is_being_recorded(tmp_path: Path, clock: Hands) -> None:
    async def only(life: Life) -> None:
        granting = asyncio.create_task(life.keeper.grant(clock.grant(1), "uid 0"))
        await asyncio.sleep(0)  # it waits for its record now
        await life.keeper.revoke("uid 0")
        with pytest.raises(GatewayError) as caught:
            await granting
        assert caught.value.code == "overtaken"
        assert (life.state, life.told.until) == (ABSENT, [None])
        with pytest.raises(GatewayError, match="overtaken"):
            await life.keeper.grant(clock.grant(1), "uid 0")

    assert live(tmp_path, clock, only) == ["granted", "revoked", "overtaken"]


def test_a_grant_that_comes_while_the_kernel_is_told_of_a_revocation_does_not_outlive_it(
    tmp_path: Path, clock: Hands
) -> None:
    """The kernel was told of the grant last, and permitted what nobody granted any more."""

    async def only(life: Life) -> None:
        await life.keeper.grant(clock.grant(1), "uid 0")
        tell = life.told.authority

        async def slow(expires_at: float | None) -> None:
            life.told.authority = tell
            await tell(expires_at)
            assert life.state is ABSENT  # nothing is granted by it meanwhile
            await life.keeper.grant(clock.grant(2), "uid 1")

        life.told.authority = slow
        await life.keeper.revoke("uid 0")
        assert (life.state, life.told.until[-1]) == (ABSENT, None)
        assert life.store.authority().not_after is None

    assert live(tmp_path, clock, only) == ["granted", "granted", "revoked"]


def test_a_revocation_that_the_kernel_refuses_holds_and_is_on_record(granted: Path, clock: Hands) -> None:
    """Else the next start would have taken the grant up again."""

    async def second(life: Life) -> None:
        async def refuses(_: object) -> None:
            raise NetdError("kernel", "the table is as it was")

        life.told.authority = refuses
        with pytest.raises(NetdError):
            await life.keeper.revoke("uid 0")
        assert (life.state, life.told.closed) == (ABSENT, ["communication-disabled"])

    async def third(life: Life) -> None:
        assert (life.state, life.told.until) == (ABSENT, [])

    assert live(granted, clock, second) == ["granted", "revoked"]
    assert live(granted, clock, third) == ["granted", "revoked"]


def test_a_grant_that_comes_while_the_former_ends_is_not_said_to_have_expired(
    granted: Path, clock: Hands
) -> None:
    async def second(life: Life) -> None:
        tell = life.told.authority

        async def slow(expires_at: float | None) -> None:
            life.told.authority = tell
            await tell(expires_at)
            await life.keeper.grant(clock.grant(2), "uid 0")

        clock.go_on(101)
        life.told.authority = slow
        await life.keeper.watch()
        assert (life.state, life.told.until[-1]) == (VALID, 211.0)
        expired = life.spool.read(0)[-1]["unmapped"]
        assert (expired["outcome"], expired["sequence"]) == ("expired", 1)

    assert live(granted, clock, second) == ["granted", "granted", "expired"]


def test_of_two_equal_grants_at_once_one_is_a_replay(tmp_path: Path, clock: Hands) -> None:
    async def only(life: Life) -> None:
        both = (life.keeper.grant(clock.grant(1), "uid 0") for _ in range(2))
        answers = await asyncio.gather(*both, return_exceptions=True)
        assert [getattr(answer, "code", None) for answer in answers] == [None, "replayed"]

    assert live(tmp_path, clock, only) == ["granted"]


def test_a_replay_that_comes_before_the_start_is_refused(granted: Path, clock: Hands) -> None:
    """The sequence was read by `start`: until then every grant of former lives counted anew, and was saved over it."""

    async def early() -> None:
        life = Life(granted, clock, "boot-1")
        with pytest.raises(GatewayError) as caught:
            await life.keeper.grant(clock.grant(1), "uid 0")
        assert caught.value.code == "replayed"
        assert life.store.authority().sequence == 1
        life.spool.close()
        life.store.close()

    asyncio.run(early())


def test_a_grant_that_comes_amid_the_start_is_kept(granted: Path, clock: Hands) -> None:
    async def early() -> None:
        life = Life(granted, clock, "boot-1")
        newer = asyncio.create_task(life.keeper.grant(clock.grant(2, 500.0), "uid 0"))
        await asyncio.sleep(0)
        await life.keeper.start()
        await newer
        assert (life.keeper.gate.sequence, life.store.authority().sequence) == (2, 2)
        assert (life.state, life.told.until[-1]) == (VALID, 510.0)
        with pytest.raises(GatewayError, match="used or overtaken"):
            await life.keeper.grant(clock.grant(1), "uid 0")
        life.spool.close()
        life.store.close()

    asyncio.run(early())


def test_what_was_revoked_before_the_start_does_not_come_back_with_it(granted: Path, clock: Hands) -> None:
    async def early() -> None:
        life = Life(granted, clock, "boot-1")

        async def slow(expires_at: float | None) -> None:
            life.told.until.append(expires_at)
            await asyncio.sleep(0.05)

        life.told.authority = slow
        await asyncio.gather(life.keeper.revoke("uid 0"), life.keeper.start())
        assert (life.state, life.told.until) == (ABSENT, [None])
        life.spool.close()
        life.store.close()

    asyncio.run(early())
