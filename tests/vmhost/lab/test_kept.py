"""What is left of a lab of virtual machines when its monitor or its host ends, and what is started with it. Files alone."""

import asyncio
import json
import os
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from vmhost.errors import HostError
from vmhost.guest import Guest
from vmhost.lab import setup
from vmhost.lab.defaults import default_spec
from vmhost.lab.kept import is_kept, keep, kept_spec, load_spec, spec_file, write_spec
from vmhost.lab.provisioning import LabPaths, make_administrator_key, make_directories
from vmhost.lab.setup import bring_back
from vmhost.lab.teardown import MONITOR_PID, record_process, tear_down
from vmhost.monitor import monitor
from vmhost.monitor.main import _run
from vmhost.monitor.monitor import Monitor
from vmhost.names import Lab
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


@pytest.fixture
def kept(spec: LabSpec) -> LabSpec:
    """The same after the host has ended: the run directory is gone."""
    keep(spec.lab)
    tear_down(spec.lab, keep_state=True)
    assert not spec.lab.run_dir.exists()
    return spec


def test_a_description_is_read_as_it_was_written(spec: LabSpec) -> None:
    assert load_spec(spec_file(spec.lab.run_dir)) == spec
    data = json.loads(spec_file(spec.lab.run_dir).read_text())
    assert set(data) == set(
        LabSpec.__dataclass_fields__
    )  # a field that is forgotten would get its default back


def test_taking_down_deletes_the_state_unless_it_is_to_be_kept(spec: LabSpec) -> None:
    keep(spec.lab)
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
        keep(spec.lab)
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
        keep(spec.lab)
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
        one.spec = replace(namespaces, gateway_vm=True)
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
