"""What follows from what guests say on their lines: dialogues, with the real rules for the gateway's restarts."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hostlink.errors import LinkError
from hostlink.reports import AuditHead, GatewayFailed, Report, Up
from vmhost.errors import HostError
from vmhost.monitor import guest_words
from vmhost.monitor.budget import Budget
from vmhost.monitor.gateway_unit import GatewayUnit
from vmhost.monitor.guest_words import LOGGED, LOGGED_WITHIN_S, GuestWords, head_file
from vmhost.names import Lab

ONE, TWO = b"\1" * 32, b"\2" * 32
BAD = GatewayFailed("pcr-mismatch")
NOISE = LinkError("bad-report", "expected up, got noise")


@dataclass
class Host:
    """A host whose gateway restarts when it is let; time stands still unless it is moved."""

    unit: GatewayUnit = field(default_factory=lambda: GatewayUnit(Budget(2, 900.0)))
    now: float = 100.0
    restarts: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    alive: dict[str, bool] = field(default_factory=dict)  # whether a gateway knows who spoke last
    booted: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.booted.set()
        self.unit.started(self.now)
        self.words = GuestWords(
            Lab("lab"), self.alive.__setitem__, self.refused, lambda: self.now, lambda: 1e9, self.log.append
        )

    async def refused(self, guest: str, check: str) -> None:
        restart = self.unit.refused(guest, check, self.now)
        if restart is not None:
            self.unit.restarting()
            self.restarts.append(restart.reason)
            await self.booted.wait()
            self.unit.started(self.now)

    async def hear(self, guest: str, *said: Report | LinkError) -> None:
        for one in said:
            await self.words.heard(guest, one)
        for _ in range(5):
            await asyncio.sleep(0)


@pytest.fixture
def heads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """Keep testimonies in a directory of the test's own."""

    def path(guest: str) -> Path:
        return tmp_path / f"{guest}.json"

    monkeypatch.setattr(guest_words, "head_file", lambda _, guest: path(guest))
    return path


def play(story: Callable[[Host], Awaitable[None]]) -> Host:
    async def run() -> Host:
        host = Host()
        await story(host)
        return host

    return asyncio.run(run())


def test_a_bad_gateway_is_restarted_at_a_guests_word() -> None:
    host = play(lambda host: host.hear("web", Up(), BAD))
    assert host.restarts == ["web refused it: pcr-mismatch"]
    assert host.log == [
        "VM web on its line: its agent runs",
        "VM web on its line: the gateway failed: pcr-mismatch",
    ]


def test_all_guests_share_one_budget_and_who_goes_on_complaining_gets_nothing() -> None:
    async def story(host: Host) -> None:
        for guest in ("web", "db", "web", "web", "db"):
            await host.hear(guest, BAD)

    host = play(story)
    assert host.restarts == ["web refused it: pcr-mismatch", "db refused it: pcr-mismatch"]
    assert "not restarted for its report: restarted 2 times within 900 s" in host.log[-1]


def test_what_is_said_while_the_gateway_restarts_costs_nothing_and_does_not_wait_for_its_end() -> None:
    async def story(host: Host) -> None:
        host.booted.clear()
        await host.hear("web", BAD)
        await host.hear("web", BAD, BAD, BAD)
        await host.hear("db", BAD, BAD)
        host.booted.set()
        await host.hear("ops")
        assert len(host.restarts) == 1
        await host.hear("db", BAD)

    assert len(play(story).restarts) == 2


@pytest.mark.parametrize("check", ["malformed-message", "wrong-mac", "nonsense", "late-answer"])
def test_rejects_check_that_refutes_no_gateway(check: str) -> None:
    host = play(lambda host: host.hear("web", GatewayFailed(check)))
    assert host.restarts == []
    assert host.log == [f"VM web on its line: refused: expected a check that refutes a gateway, got {check}"]
    assert host.unit.budget.take(100.0)


def test_noise_is_logged_and_changes_nothing(heads: Callable[[str], Path]) -> None:
    host = play(lambda host: host.hear("web", NOISE, Up()))
    assert host.log[0] == "VM web on its line: refused: bad-report: expected up, got noise"
    assert host.alive == {"web": False}
    assert host.restarts == []
    assert not heads("web").exists()


def test_a_guest_that_floods_fills_no_log_and_silences_nobody_else() -> None:
    async def story(host: Host) -> None:
        await host.hear("web", *[NOISE] * 1000)
        await host.hear("db", NOISE)
        host.now += LOGGED_WITHIN_S
        await host.hear("web", NOISE)

    host = play(story)
    assert [line.split()[1] for line in host.log] == ["web"] * LOGGED + ["db", "web"]


def test_the_newest_head_is_kept_as_that_guests_testimony(heads: Callable[[str], Path]) -> None:
    play(lambda host: host.hear("web", AuditHead(7, ONE), AuditHead(9, TWO)))
    kept = json.loads(heads("web").read_text())
    assert kept == {"source": "lab/web", "sequence": 9, "hash": TWO.hex(), "time": 1e9}


@pytest.mark.parametrize("later", [AuditHead(7, TWO), AuditHead(6, TWO)], ids=["same", "older"])
def test_a_head_that_is_not_newer_is_not_taken_back(heads: Callable[[str], Path], later: AuditHead) -> None:
    play(lambda host: host.hear("web", AuditHead(7, ONE), later))
    assert json.loads(heads("web").read_text())["hash"] == ONE.hex()


def test_a_head_of_an_earlier_monitors_time_is_not_taken_back(heads: Callable[[str], Path]) -> None:
    play(lambda host: host.hear("web", AuditHead(7, ONE)))
    play(lambda host: host.hear("web", AuditHead(6, TWO)))
    assert json.loads(heads("web").read_text())["sequence"] == 7
    play(lambda host: host.hear("web", AuditHead(8, TWO)))
    assert json.loads(heads("web").read_text())["sequence"] == 8


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"sequence": "x"}'])
def test_a_kept_head_that_was_spoilt_is_taken_anew(heads: Callable[[str], Path], text: str) -> None:
    heads("web").write_text(text)
    play(lambda host: host.hear("web", AuditHead(3, ONE)))
    assert json.loads(heads("web").read_text())["sequence"] == 3


def test_a_guest_speaks_for_itself_alone(heads: Callable[[str], Path]) -> None:
    async def story(host: Host) -> None:
        await host.hear("web", AuditHead(7, ONE))
        await host.hear("db", AuditHead(5, TWO))

    play(story)
    assert json.loads(heads("db").read_text()) == {
        "source": "lab/db", "sequence": 5, "hash": TWO.hex(), "time": 1e9,
    }  # fmt: skip


def test_a_disk_that_is_full_is_told_and_the_head_is_taken_later(
    heads: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    async def story(host: Host) -> None:
        with monkeypatch.context() as patched:
            patched.setattr(guest_words, "write_durably", full)
            await host.hear("web", AuditHead(7, ONE))
        await host.hear("web", AuditHead(7, ONE))

    host = play(story)
    assert "not kept: [Errno 28]" in host.log[0]
    assert json.loads(heads("web").read_text())["sequence"] == 7


def test_a_refusal_of_the_monitor_is_told() -> None:
    async def story(host: Host) -> None:
        async def kept_off(_guest: str, _check: str) -> None:
            raise HostError("kept-off", "an operator has switched gateway off")

        host.words._refuse = kept_off
        await host.hear("web", BAD)

    assert "not restarted for its report: an operator has switched gateway off" in play(story).log[-1]


def test_testimonies_lie_where_audit_verify_looks() -> None:
    found = Path("/var/lib/quotegate/lab/peers").joinpath("web", "audit_head.json")
    assert head_file(Lab("lab"), "web") == found


@pytest.mark.parametrize("said", [Up(), AuditHead(1, ONE), BAD], ids=repr)
def test_whoever_says_anything_is_alive(heads: Callable[[str], Path], said: Report) -> None:
    assert play(lambda host: host.hear("web", said)).alive == {"web": isinstance(said, AuditHead)}
    assert play(lambda host: host.hear("web", NOISE)).alive == {}
