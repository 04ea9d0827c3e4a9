"""What the gateway's VM starts from: the operator's files as they are when it starts."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmhost.lab import gateway_vm
from vmhost.lab.gateway_vm import SETTINGS_DISK, material_files, refresh_settings, slot_directory
from vmhost.lab.teardown import tear_down
from vmhost.names import Lab
from vmhost.update.slots import Slot
from vmhost.vm.settings import pack_files, unpack_settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a lab's directories are root's")
OTHERS = {"setup.json": b"{}\n", "policy.toml": b"schema = 1\n"}


@pytest.fixture
def lab() -> Iterator[Lab]:
    """A lab whose slots' disks have files of the operator's that are older than those on the host."""
    one = Lab(f"tgv{os.getpid()}")
    try:
        one.material.mkdir(parents=True)
        (one.material / "words.toml").write_bytes(b"new")
        for slot in Slot:
            slot_directory(one, slot).mkdir(parents=True, exist_ok=True)
            settings(one, slot).write_bytes(
                pack_files({**OTHERS, "material/words.toml": b"old", "material/gone.yar": b"rule"})
            )
        yield one
    finally:
        tear_down(one)


def settings(lab: Lab, slot: Slot = Slot.A) -> Path:
    return slot_directory(lab, slot) / SETTINGS_DISK


def test_each_start_takes_the_operators_files_as_they_are(lab: Lab) -> None:
    refresh_settings(lab, Slot.B)
    assert unpack_settings(settings(lab, Slot.B).read_bytes()) == {**OTHERS, "material/words.toml": b"new"}
    assert "material/gone.yar" in unpack_settings(settings(lab).read_bytes())  # that slot is not started


def test_a_disk_that_has_them_already_is_not_written(lab: Lab) -> None:
    refresh_settings(lab, Slot.A)
    before = settings(lab).stat().st_ino
    refresh_settings(lab, Slot.A)
    assert settings(lab).stat().st_ino == before


@pytest.mark.parametrize("fault", ["too many bytes", "too long a name", "full disk"])
def test_files_that_cannot_be_taken_leave_those_of_before(
    lab: Lab, fault: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = settings(lab).read_bytes()
    if fault == "too many bytes":
        monkeypatch.setattr(gateway_vm, "MOST_MATERIAL", 2)
    elif fault == "too long a name":
        (lab.material / ("x" * 200)).write_text("")
    else:
        monkeypatch.setattr(gateway_vm, "write_durably", full)
    refresh_settings(lab, Slot.A)
    assert settings(lab).read_bytes() == before
    said = capsys.readouterr()
    assert f"{lab.material}: the gateway starts with your files as it had them" in said.out + said.err


def full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_sockets_links_to_them_and_directories_are_no_files_of_the_operators(lab: Lab) -> None:
    (lab.material / "directory").mkdir()
    (lab.material / "clamd.sock").symlink_to("/nowhere/clamd.ctl")
    assert material_files(lab) == {"material/words.toml": b"new"}
