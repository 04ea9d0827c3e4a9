"""A gateway's VM on trial: which slot runs in the end, and why. The machine is a stand-in, its line a real socket."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from tests.vmhost.vm.specs import small
from vmhost.errors import HostError
from vmhost.update.keeper import SlotKeeper
from vmhost.update.slots import Outcome, Result, Slot, Slots, State
from vmhost.vm import domain, gateway
from vmhost.vm.gateway import GatewayVm
from vmhost.vm.gateway_api import Complaint, GatewayApi
from vmhost.vm.recovery import Done
from vmhost.vm.spec import Disk, VmSpec

GOOD, CANDIDATE = Path("good.img"), Path("candidate.img")
WITHIN_S = 1.0


@dataclass
class Machine:
    """Stands for a domain: it starts what its first disk says, and ends by itself when that is to be."""

    spec: VmSpec
    state: domain.State = domain.State.OFF
    started: list[Path] = field(default_factory=list)
    dies: bool = False
    machine: None = None

    @property
    def image(self) -> Path:
        return self.spec.disks[0].path

    async def start(self) -> None:
        self.started.append(self.image)
        dead = self.dies and self.image == CANDIDATE
        self.state = domain.State.OFF if dead else domain.State.RUNNING

    async def stop(self) -> None:
        self.state = domain.State.OFF


class Store:
    """Slots in memory."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots

    def load(self) -> Slots:
        return self.slots

    def save(self, slots: Slots) -> None:
        self.slots = slots


@dataclass
class Trial:
    """A gateway whose slot B has a candidate with one try."""

    vm: GatewayVm
    machine: Machine
    store: Store
    told: list[Outcome]
    refreshed: list[Slot] = field(default_factory=list)
    complaint: Callable[[], Complaint | None] = lambda: None
    silent: bool = False

    def image(self) -> Path:
        return self.machine.image


@pytest.fixture
def trial(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Trial]:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()
    (tmp_path / "console.log").write_text("quotegate gateway: the last words\n")
    machine = Machine(small(run_dir=tmp_path, disks=(Disk(GOOD, readonly=True),)))
    store = Store(Slots.first(1).offered(2, 1, WITHIN_S))
    anything: Any = machine
    vm = GatewayVm(anything, Mock(), Mock(), loop)
    one = Trial(vm, machine, store, [])
    keeper_store: Any = store
    vm.slots, vm.services, vm.api_socket = SlotKeeper(keeper_store), {}, tmp_path / "api.sock"
    vm.refresh = one.refreshed.append
    vm.disks_of = lambda slot: (Disk(GOOD if slot is Slot.A else CANDIDATE, readonly=True),)

    async def answers(_: Path) -> bool:
        return not (one.silent and machine.image == CANDIDATE)

    async def self_test(_: GatewayApi) -> Complaint | None:
        return one.complaint()

    async def tell(_: GatewayApi, outcome: Outcome) -> None:
        one.told.append(outcome)

    async def line(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    vm.answers = answers
    monkeypatch.setattr(GatewayApi, "self_test", self_test)
    monkeypatch.setattr(GatewayApi, "tell", tell)
    monkeypatch.setattr(gateway, "TEST_EVERY_S", 0.02)
    monkeypatch.setattr(gateway, "LOOK_EVERY_S", 0.02)
    listening = asyncio.start_unix_server(line, machine.spec.link_socket)
    server = asyncio.run_coroutine_threadsafe(listening, loop).result()
    try:
        yield one
    finally:
        vm.power_off()
        loop.call_soon_threadsafe(server.close)
        loop.call_soon_threadsafe(loop.stop)


def fell_back(trial: Trial) -> str:
    """Boot; the good image has to run in the end. Returns why."""
    trial.vm.boot()
    assert trial.machine.started == [CANDIDATE, GOOD]
    assert trial.vm.alive
    slots = trial.store.slots
    assert (slots.active, slots.b.state, slots.untold) == (Slot.A, State.BAD, ())
    (outcome,) = trial.told
    assert (outcome.result, outcome.version) == (Result.FELL_BACK, 2)
    assert slots.b.reason in outcome.detail
    return slots.b.reason


def test_a_candidate_that_passes_is_blessed(trial: Trial) -> None:
    trial.vm.boot()
    assert trial.machine.started == [CANDIDATE]
    assert trial.store.slots.active is Slot.B
    assert [one.result for one in trial.told] == [Result.BLESSED]


def test_parts_that_still_start_are_waited_for(trial: Trial) -> None:
    complaints = iter([Complaint("no inspector is here", pending=True)] * 10 + [None])
    trial.complaint = lambda: next(complaints)
    trial.vm.boot()
    assert trial.store.slots.active is Slot.B


def test_a_check_that_fails_once_does_not_decide(trial: Trial) -> None:
    complaints = iter([Complaint("rules: changed", pending=False), None])
    trial.complaint = lambda: next(complaints)
    trial.vm.boot()
    assert trial.store.slots.active is Slot.B


def test_rejects_image_whose_parts_never_come(trial: Trial) -> None:
    trial.complaint = lambda: Complaint("inspector: no inspector is here", pending=True)
    why = fell_back(trial)
    assert "was not up within 1 s (inspector: no inspector is here)" in why


def test_rejects_image_that_hangs(trial: Trial) -> None:
    trial.silent = True
    why = fell_back(trial)
    assert "was not up within 1 s" in why
    assert "the last words" in why


def test_rejects_image_that_dies(trial: Trial) -> None:
    trial.machine.dies = trial.silent = True
    assert "ended while it started" in fell_back(trial)


def test_rejects_image_that_fails_its_self_test(trial: Trial) -> None:
    trial.complaint = lambda: Complaint("rules: changed", pending=False)
    assert "its self-test failed: rules: changed" in fell_back(trial)


def test_rejects_image_whose_self_test_never_ends(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(_: GatewayApi) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(GatewayApi, "self_test", hangs)
    assert "was not up within 1 s" in fell_back(trial)


def test_rejects_image_whose_self_test_does_not_answer(trial: Trial, monkeypatch: pytest.MonkeyPatch) -> None:
    async def away(_: GatewayApi) -> None:
        raise HostError("gateway-away", "no answer")

    monkeypatch.setattr(GatewayApi, "self_test", away)
    assert "no answer" in fell_back(trial)


def test_a_good_image_is_started_without_a_trial(trial: Trial) -> None:
    trial.store.slots = Slots.first(1)
    trial.complaint = lambda: Complaint("never asked", pending=False)
    trial.vm.boot()
    assert trial.machine.started == [GOOD]
    assert trial.told == []


def test_a_blessing_that_a_full_disk_did_not_take_is_written_later(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Slots) -> None:
        raise HostError("slots-not-saved", "no space")

    begun = trial.store.save
    monkeypatch.setattr(trial.store, "save", lambda slots: begun(slots) if slots.candidate else full(slots))
    trial.vm.boot()
    assert (trial.image(), trial.vm.alive, trial.vm.has_fallen) == (CANDIDATE, True, True)
    trial.vm.revive()
    assert trial.vm.has_fallen
    monkeypatch.undo()
    trial.vm.revive()
    assert (trial.store.slots.active, trial.vm.has_fallen) == (Slot.B, False)


def test_what_a_console_said_last_is_harmless_to_a_terminal(tmp_path: Path) -> None:
    log = tmp_path / "console.log"
    log.write_text(f"{gateway.COMPLAINT}\x1b[2Jno key\n")
    assert gateway._complaint(log) == "quotegate gateway: \\x1b[2Jno key"


def test_what_could_not_be_told_is_told_at_the_next_start(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def away(_: GatewayApi, outcome: Outcome) -> None:
        raise HostError("gateway-away", "no answer")

    with monkeypatch.context() as patched:
        patched.setattr(GatewayApi, "tell", away)
        trial.vm.boot()
    assert trial.told == []
    trial.vm.power_off()
    trial.vm.boot()
    assert [one.result for one in trial.told] == [Result.BLESSED]


def test_the_settings_of_the_slot_that_is_started_are_brought_up_to_date(trial: Trial) -> None:
    trial.complaint = lambda: Complaint("rules: changed", pending=False)
    trial.vm.boot()
    assert trial.refreshed == [Slot.B, Slot.A]


def test_rejects_a_machine_that_is_over_before_its_line_is_open(trial: Trial) -> None:
    trial.store.slots = Slots.first(1)
    trial.machine.spec.link_socket.unlink()
    with pytest.raises(HostError, match=r"ended while it started: .*the last words") as raised:
        trial.vm.boot()
    assert raised.value.code == "gateway-failed"


def test_rejects_a_replacement_with_few_of_the_guests_words(
    trial: Trial, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        gateway, "run_in_guest", lambda *_: Done(1, b"\x1b" * 100_000 + b" no such inspector\n")
    )
    with pytest.raises(HostError, match="no such inspector") as raised:
        trial.vm.replace("inspector-0")
    assert len(raised.value.message) < 4000
