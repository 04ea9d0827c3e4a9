"""What is left of a lab of virtual machines when its monitor or its host ends, and what is started with it. Files alone."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from vmhost.errors import HostError
from vmhost.guest import Guest
from vmhost.lab import setup
from vmhost.lab.defaults import default_spec
from vmhost.lab.kept import (
    is_kept,
    keep,
    kept_spec,
    last_words,
    load_spec,
    note_off,
    noted_off,
    spec_file,
    write_spec,
)
from vmhost.lab.provisioning import LabPaths, make_administrator_key, make_directories
from vmhost.lab.setup import bring_back
from vmhost.lab.teardown import MONITOR_PID, record_process, tear_down
from vmhost.monitor import monitor
from vmhost.monitor.main import _run
from vmhost.monitor.monitor import Monitor
from vmhost.names import GATEWAY, Lab
from vmhost.process import MAX_LOG
from vmhost.spec import LabSpec

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a lab's directories belong to several uids")
DOCUMENTS = ("shared/portmap.json", "shared/references.json", "gateway/setup.json", "peers/web/setup.json")


@pytest.fixture
def spec() -> Iterator[LabSpec]:
    """A lab that was provisioned, of which there are files alone."""
    one = default_spec(Lab(f"tkp{os.getpid()}"), 2)
    one = replace(one, images=Path("/images"), gateway_vm=True, return_within_s=7.5, preapproved=False)
    try:
        make_directories(one)
        make_administrator_key(one.lab)
        write_spec(spec_file(one.lab.run_dir), one)
        for name in DOCUMENTS:
            (one.lab.run_dir / name).write_text(f"content of {name}")
        yield one
    finally:
        tear_down(one.lab)


@pytest.fixture(autouse=True)
def _documents_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Here they are no real ones; those are in `test_renewal.py`."""
    monkeypatch.setattr(setup, "demand_valid", lambda _: None)


@pytest.fixture
def kept(spec: LabSpec) -> LabSpec:
    """The same after the host has ended: the run directory is gone."""
    keep(spec)
    tear_down(spec.lab, keep_state=True)
    assert not spec.lab.run_dir.exists()
    return spec


def test_a_description_is_read_as_it_was_written(spec: LabSpec) -> None:
    assert load_spec(spec_file(spec.lab.run_dir)) == spec
    data = json.loads(spec_file(spec.lab.run_dir).read_text())
    assert set(data) == set(
        LabSpec.__dataclass_fields__
    )  # a field that is forgotten would get its default back


def test_a_description_of_before_has_the_defaults_of_what_it_does_not_know(spec: LabSpec) -> None:
    path = spec_file(spec.lab.run_dir)
    data = json.loads(path.read_text())
    for name in ("images", "return_within_s", "preapproved", "valid_days"):
        del data[name]
    path.write_text(json.dumps(data))
    assert load_spec(path) == replace(spec, images=None, return_within_s=None, preapproved=True)


def test_taking_down_deletes_the_state_unless_it_is_to_be_kept(spec: LabSpec) -> None:
    keep(spec)
    tear_down(spec.lab, keep_state=True)
    assert (is_kept(spec.lab), spec.lab.administrator_key.exists()) == (True, True)
    tear_down(spec.lab)
    assert not spec.lab.state_dir.exists()


def test_machines_are_started_again_with_what_was_kept(
    kept: LabSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[LabSpec] = []
    key = kept.lab.administrator_key.read_bytes()
    monkeypatch.setattr(setup, "_start", lambda spec, _: started.append(spec))
    assert bring_back(kept.lab) == kept
    assert started == [kept]
    assert kept.lab.administrator_key.read_bytes() == key
    for name in DOCUMENTS:
        assert (kept.lab.run_dir / name).read_text() == f"content of {name}"
    for directory in (kept.lab.run_dir, LabPaths(kept.lab).shared):
        assert directory.stat().st_mode & 0o777 == 0o755  # services pass through


def test_a_start_that_fails_keeps_the_state(kept: LabSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise HostError("start-failed", "no port")

    monkeypatch.setattr(setup, "_start", fails)
    with pytest.raises(HostError) as raised:
        bring_back(kept.lab)
    assert raised.value.code == "start-failed"
    assert not kept.lab.run_dir.exists()
    assert kept_spec(kept.lab) == kept


@pytest.mark.parametrize(("has_state", "code"), [(True, "already-up"), (False, "no-state")])
def test_rejects_a_second_start_beside_a_monitor_that_runs(spec: LabSpec, has_state: bool, code: str) -> None:
    """Where nothing is kept nobody is told to take the lab down first."""
    if has_state:
        keep(spec)
    stands_for_it = subprocess.Popen(["sleep", "60"])
    try:
        record_process(spec.lab.run_dir / MONITOR_PID, stands_for_it.pid)
        with pytest.raises(HostError) as raised:
            bring_back(spec.lab)
        assert raised.value.code == code
        assert stands_for_it.poll() is None
    finally:
        stands_for_it.kill()
        stands_for_it.wait(5)


def test_rejects_a_lab_that_never_came_up(spec: LabSpec) -> None:
    with pytest.raises(HostError) as raised:
        bring_back(spec.lab)
    assert raised.value.code == "no-state"
    assert spec_file(spec.lab.run_dir).exists()  # nothing was touched


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"lab": 1}'])
def test_rejects_a_description_that_was_spoilt(kept: LabSpec, text: str) -> None:
    spec_file(kept.lab.kept_dir).write_text(text)
    with pytest.raises(HostError) as raised:
        bring_back(kept.lab)
    assert raised.value.code == "bad-state"
    assert kept.lab.administrator_key.exists()


def test_rejects_the_description_of_another_lab(kept: LabSpec) -> None:
    """It would clear that one away, and start its machines with this one's state."""
    path = spec_file(kept.lab.kept_dir)
    path.write_text(json.dumps({**json.loads(path.read_text()), "lab": "other"}))
    with pytest.raises(HostError) as raised:
        bring_back(kept.lab)
    assert raised.value.code == "bad-state"
    assert "expected the lab" in raised.value.message


def test_the_last_words_of_a_monitor_that_died_are_kept_until_the_next_one_dies(
    spec: LabSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "_start", lambda *_: None)
    keep(spec)
    console = spec.lab.run_dir / "vms" / "web" / "console.log"
    for number in (1, 2):
        console.parent.mkdir(parents=True)
        console.write_text(f"panic {number}")
        spec.lab.monitor_log.write_bytes(b"x" * MAX_LOG + f"last words {number}".encode())
        bring_back(spec.lab)
        assert not console.exists()
        kept_log = (last_words(spec.lab) / "monitor.log").read_bytes()
        assert (len(kept_log), kept_log[-12:]) == (MAX_LOG, f"last words {number}".encode())
        assert (last_words(spec.lab) / "web-console.log").read_text() == f"panic {number}"
    bring_back(spec.lab)  # nobody said anything since
    assert (last_words(spec.lab) / "monitor.log").exists()


def test_what_an_operator_switched_off_stays_off_also_for_the_next_monitor(
    kept: LabSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_directories(kept)
    namespaces = replace(kept, images=None, gateway_vm=False)

    async def boots() -> tuple[Monitor, dict[str, Mock]]:
        one = Monitor(namespaces, Path("/nowhere"))
        one.spec = replace(namespaces, gateway_vm=True)
        machines: dict[str, Any] = {name: Mock() for name in (GATEWAY, "web", "db")}
        for name, machine in machines.items():
            machine.name = name
            machine.pids.return_value = {}
        one.gateway, one.peers = machines[GATEWAY], {name: machines[name] for name in ("web", "db")}
        await one.start()
        return one, machines

    async def story() -> None:
        one, machines = await boots()
        assert all(machine.boot.called for machine in machines.values())
        await one.stop_machine("web")
        await one.stop_machine(GATEWAY)
        one, machines = await boots()
        assert [name for name, machine in machines.items() if machine.boot.called] == ["db"]
        assert noted_off(kept.lab) == {"web": "by an operator", GATEWAY: "by an operator"}
        with pytest.raises(HostError) as refused:
            await one.restart_peer("web")
        assert refused.value.code == "kept-off"
        await one.start_machine("web")
        await one.start_machine(GATEWAY)
        assert noted_off(kept.lab) == {}

    asyncio.run(story())


def test_a_machine_is_switched_off_though_that_can_not_be_noted(
    kept: LabSpec, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    noted: list[dict[str, str]] = []

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(monitor, "note_off", full)
    web: Any = Mock()
    web.name = "web"

    async def story() -> None:
        one = Monitor(replace(kept, images=None, gateway_vm=False), Path("/nowhere"))
        one.peers["web"] = web
        await one.stop_machine("web")
        web.power_off.assert_called_once_with()
        monkeypatch.setattr(monitor, "note_off", lambda _, off: noted.append(off))
        for _ in range(2):  # once there is room, saying it again has it noted
            await one.stop_machine("web")

    asyncio.run(story())
    assert noted == [{"web": "by an operator"}]
    assert "web: a later monitor will not know whether it stays off" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "[]"])
def test_rejects_a_note_of_who_stays_off_that_was_spoilt(kept: LabSpec, text: str) -> None:
    note_off(kept.lab, {"web": "by an operator"})
    (kept.lab.state_dir / "kept_off.json").write_text(text)
    with pytest.raises(HostError) as raised:
        bring_back(kept.lab)
    assert raised.value.code == "bad-state"


@pytest.mark.parametrize("again", [False, True], ids=["anew", "again"])
def test_what_was_kept_is_prepared_only_once(
    spec: LabSpec, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    done: list[str] = []

    async def boot(_: Monitor, machine: Guest) -> None:
        done.append(f"boot {machine.name}")

    def note(name: str) -> Any:
        return lambda *_: done.append(name)

    if again:
        keep(spec)
    monkeypatch.setattr(Monitor, "_boot", boot)
    for name in ("prepare_vms", "prepare_gateway", "provision"):
        monkeypatch.setattr(monitor, name, note(name))
    namespaces = replace(
        spec, images=None, gateway_vm=False
    )  # machines that can be described without a processor

    async def story() -> None:
        one = Monitor(namespaces, Path("/nowhere"))
        for machine in one.machines.values():
            monkeypatch.setattr(machine, "identify", lambda: None)
        one.spec = spec
        await one.start()

    asyncio.run(story())
    prepared = [] if again else ["prepare_vms", "prepare_gateway", "provision"]
    assert done == [*prepared, "boot gateway", "boot web", "boot db"]
    assert kept_spec(spec.lab) == spec


def test_a_monitor_that_can_not_start_its_machines_ends_with_an_error(
    spec: LabSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: Monitor) -> None:
        raise HostError("golden-refused", "expired")

    monkeypatch.setattr(Monitor, "start", fails)
    write_spec(spec_file(spec.lab.run_dir), replace(spec, images=None, gateway_vm=False))
    assert asyncio.run(_run(spec.lab, Path("/nowhere"), None)) == 1
    assert (spec.lab.run_dir / "failed").read_text() == "expired"
