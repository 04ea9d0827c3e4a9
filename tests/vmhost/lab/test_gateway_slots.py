"""The slots on a real disk: what an update is copied to, and the gateway's VM made of it."""

import hashlib
import json
import os
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from authn.signing import key_id
from tests.vmhost.update.bundles import IN_FORCE, put, small_image
from vmhost.errors import HostError
from vmhost.image.approve import public_hex
from vmhost.image.esp import read_program
from vmhost.lab.defaults import default_spec
from vmhost.lab.gateway_slots import STATE_ROOM, LabSlots, checked_update
from vmhost.lab.gateway_vm import disks_of, slot_directory, slots_file
from vmhost.lab.provisioning import (
    LabPaths,
    load_administrator_key,
    load_authority_key,
    make_administrator_key,
    make_authority_key,
    make_directories,
)
from vmhost.lab.teardown import tear_down
from vmhost.lab.vms import VmPaths, golden_dir
from vmhost.monitor.updates import GatewayUpdates
from vmhost.names import GATEWAY, Lab
from vmhost.spec import LabSpec
from vmhost.update.bundle import Bundle, write_bundle
from vmhost.update.manifest import BOOT, ROOT
from vmhost.update.slots import Slot, Slots, State
from vmhost.vm.golden import COPY, sign_golden

LATER = 4e9


@pytest.fixture
def spec() -> Iterator[LabSpec]:
    """A lab of which there are files alone."""
    one = default_spec(Lab(f"ts{os.getpid()}"), 2)
    try:
        make_directories(one)
        make_administrator_key(one.lab)
        make_authority_key(one.lab)
        VmPaths(one.lab, GATEWAY).directory.mkdir(parents=True)
        slots_file(one.lab).write_text(Slots.first(1).to_json())
        paths = LabPaths(one.lab)
        firmware = paths.shared / "OVMF_CODE.fd"
        firmware.write_bytes(b"firmware")
        sign_golden(firmware, golden_dir(one.lab), 1, LATER, load_administrator_key(one.lab))
        paths.gateway_setup.write_text(json.dumps({"gateway_id": "lab/gateway"}))
        for name in ("portmap.json", "references.json", "ek_ca.pem", "policy.toml"):
            (paths.shared / name).write_text("x")
        yield one
    finally:
        tear_down(one.lab)


@pytest.fixture
def update(spec: LabSpec, tmp_path: Path) -> Bundle:
    key, authority = load_administrator_key(spec.lab), load_authority_key(spec.lab.authority_key)
    return write_bundle(small_image(tmp_path / "image"), tmp_path / "u", 2, LATER, key, authority)


def test_an_update_is_checked_with_the_labs_own_keys(spec: LabSpec, update: Bundle) -> None:
    assert checked_update(spec, Slots.first(1), update.directory) == update
    assert key_id(load_administrator_key(spec.lab).public_key().public_bytes_raw()) not in IN_FORCE.keys
    assert (
        public_hex(load_authority_key(spec.lab.authority_key).public_key()) == update.manifest.approval.public
    )


def test_a_slot_has_disks_of_its_own_and_shares_the_state(spec: LabSpec, update: Bundle) -> None:
    LabSlots(spec).fill(Slot.B, update)
    a, b = disks_of(spec.lab, Slot.A), disks_of(spec.lab, Slot.B)
    assert [one.readonly for one in b] == [True, True, True, False]
    assert a[3] == b[3]
    assert not {one.path for one in a[:3]} & {one.path for one in b[:3]}
    assert b[0].path.read_bytes() == (update.directory / BOOT).read_bytes()
    assert b[1].path.read_bytes() == (update.directory / ROOT).read_bytes()


def test_which_program_an_update_has_is_noted_beside_its_disk(spec: LabSpec, update: Bundle) -> None:
    LabSlots(spec).fill(Slot.B, update)
    noted = json.loads((slot_directory(spec.lab, Slot.B) / "gateway.json").read_text())
    assert noted == {"uki": hashlib.sha256(read_program(update.directory / BOOT)).hexdigest()}


def test_its_settings_bring_the_approval_and_the_reference_values(spec: LabSpec, update: Bundle) -> None:
    LabSlots(spec).fill(Slot.B, update)
    with tarfile.open(disks_of(spec.lab, Slot.B)[2].path) as settings:
        content = {one: settings.extractfile(one).read() for one in settings.getnames()}  # type: ignore[union-attr]
    setup = json.loads(content["setup.json"])
    assert content["approval.json"].decode() == update.manifest.approval.to_json()
    assert content[setup["own_references"].rpartition("/")[2]] == update.manifest.references
    assert setup["approval"].endswith("/approval.json")


def test_rejects_file_that_changed_since_it_was_checked(spec: LabSpec, update: Bundle) -> None:
    put(update.directory / ROOT, b"another root")
    with pytest.raises(HostError) as raised:
        LabSlots(spec).fill(Slot.B, update)
    assert raised.value.code == "file-altered"


def test_a_full_disk_is_told_and_the_slot_stays_empty(
    spec: LabSpec, update: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vmhost.lab.gateway_slots.shutil.copyfile", full)
    updates = GatewayUpdates.of(_vm(spec))
    with pytest.raises(HostError) as raised:
        updates.install(str(update.directory), 2, 60)
    assert raised.value.code == "slot-failed"
    assert "No space left" in raised.value.message
    assert updates.keeper.slots == Slots.first(1)


def test_an_update_for_which_there_is_no_room_leaves_the_way_back(
    spec: LabSpec, update: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: Path, size: int) -> None:
        raise HostError("no-space", f"expected {size} bytes")

    monkeypatch.setattr("vmhost.lab.gateway_slots.ensure_room", full)
    both = Slots.first(0).offered(1, 1, 60).begun()[0].blessed()
    slots_file(spec.lab).write_text(both.to_json())
    updates = GatewayUpdates.of(_vm(spec))
    with pytest.raises(HostError) as raised:
        updates.install(str(update.directory), 2, 60)
    assert raised.value.code == "slot-failed"
    assert updates.keeper.slots == both


def test_room_is_taken_for_what_an_update_is_larger(
    spec: LabSpec, update: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr("vmhost.lab.gateway_slots.ensure_room", lambda _, size: asked.append(size))
    store, size = LabSlots(spec), sum(one.size for one in update.manifest.files.values())
    (spec.lab.material / "own.yar").write_bytes(bytes(5 << 20))
    store.check_room(Slot.B, update)
    store.fill(Slot.B, update)
    store.check_room(Slot.B, update)
    settings = disks_of(spec.lab, Slot.B)[2].path.stat().st_size
    assert settings > 5 << 20
    assert asked == [size + settings + STATE_ROOM, settings + STATE_ROOM]


def test_rejects_an_operators_file_that_fits_on_no_settings_disk_before_anything_is_changed(
    spec: LabSpec, update: Bundle
) -> None:
    both = Slots.first(0).offered(1, 1, 60).begun()[0].blessed()
    slots_file(spec.lab).write_text(both.to_json())
    (spec.lab.material / ("x" * 200)).write_text("")
    updates = GatewayUpdates.of(_vm(spec))
    with pytest.raises(HostError) as raised:
        updates.install(str(update.directory), 2, 60)
    assert (raised.value.code, updates.keeper.slots) == ("slot-failed", both)
    assert str(spec.lab.material) in raised.value.message


def test_slots_that_can_not_be_written_name_their_file(
    spec: LabSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("vmhost.lab.gateway_slots.write_durably", full)
    with pytest.raises(HostError) as raised:
        LabSlots(spec).save(Slots.first(1))
    assert raised.value.code == "slots-not-saved"
    assert str(slots_file(spec.lab)) in raised.value.message


def test_a_refused_update_leaves_everything_as_it_was(spec: LabSpec, update: Bundle) -> None:
    before = slots_file(spec.lab).read_bytes()
    put(update.directory / BOOT, b"another image")
    with pytest.raises(HostError):
        GatewayUpdates.of(_vm(spec)).install(str(update.directory), 2, 60)
    assert slots_file(spec.lab).read_bytes() == before
    assert not slot_directory(spec.lab, Slot.B).exists()


@pytest.mark.parametrize(("end", "code"), [(1.0, "golden-refused"), (LATER, "golden-altered")])
def test_rejects_an_update_whose_firmware_no_gateway_would_start_from(
    spec: LabSpec, update: Bundle, end: float, code: str
) -> None:
    """The one that runs would have been stopped for it."""
    golden = golden_dir(spec.lab)
    sign_golden(golden / COPY, golden, 2, end, load_administrator_key(spec.lab))
    if code == "golden-altered":
        (golden / COPY).write_bytes(b"another")
    before = slots_file(spec.lab).read_bytes()
    updates = GatewayUpdates.of(_vm(spec))
    for change in (lambda: updates.install(str(update.directory), 2, 60), lambda: updates.roll_back(2, 60)):
        with pytest.raises(HostError) as raised:
            change()
        assert raised.value.code == code
    assert slots_file(spec.lab).read_bytes() == before
    assert not slot_directory(spec.lab, Slot.B).exists()


def test_an_installed_update_is_the_candidate(spec: LabSpec, update: Bundle) -> None:
    updates = GatewayUpdates.of(_vm(spec))
    assert updates.check(str(update.directory)) == {"version": 2, "not_after": LATER}
    assert updates.install(str(update.directory), 2, 60) == 2
    status = updates.status()
    assert (status["active"], status["version"]) == ("a", 1)
    assert status["slots"]["b"]["state"] == State.CANDIDATE
    with pytest.raises(HostError) as raised:
        updates.check_commit()
    assert raised.value.code == "update-pending"


def test_rejects_giving_the_way_back_up_before_the_blessing_is_on_the_disk(
    spec: LabSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    slots_file(spec.lab).write_text(Slots.first(0).offered(1, 1, 60).begun()[0].to_json())
    updates = GatewayUpdates.of(_vm(spec))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("vmhost.lab.gateway_slots.write_durably", full)
        updates.keeper.bless()
        with pytest.raises(HostError) as raised:
            updates.check_commit()
        assert raised.value.code == "slots-not-saved"
    updates.check_commit()
    assert LabSlots(spec).load().active is Slot.B


@pytest.mark.parametrize("verb", ["status", "check_commit"])
def test_rejects_gateway_without_an_image(spec: LabSpec, verb: str) -> None:
    with pytest.raises(HostError) as raised:
        getattr(GatewayUpdates.of(spec), verb)()
    assert raised.value.code == "not-a-vm"


def test_rejects_slots_that_are_gone(spec: LabSpec) -> None:
    slots_file(spec.lab).unlink()
    with pytest.raises(HostError) as raised:
        LabSlots(spec).load()
    assert raised.value.code == "bad-slots"


def _vm(spec: LabSpec) -> LabSpec:
    return replace(spec, gateway_vm=True)


@pytest.mark.parametrize("spoilt", [b"\xff\xfe", b"", b"[" * 100_000], ids=["no text", "empty", "deep"])
def test_rejects_slots_that_a_disk_spoilt(spec: LabSpec, spoilt: bytes) -> None:
    slots_file(spec.lab).write_bytes(spoilt)
    with pytest.raises(HostError, match=r"nothing was started: restore slots\.json") as raised:
        LabSlots(spec).load()
    assert raised.value.code == "bad-slots"
