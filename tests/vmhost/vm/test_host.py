"""The steps of a start on this host, where they are refused before anything runs."""

from pathlib import Path

import pytest

from tests.vmhost.vm.specs import small
from vmhost.errors import HostError
from vmhost.process import Rights
from vmhost.vm import accelerator
from vmhost.vm.accelerator import OVERRIDE, choose
from vmhost.vm.host import Host
from vmhost.vm.vtpm import VtpmSpec


def test_rejects_a_vm_whose_tpm_key_is_gone(tmp_path: Path) -> None:
    spec = small()
    vtpm = VtpmSpec(
        spec.name, "", tmp_path / "tpm", spec.tpm_socket, tmp_path / "log", Rights(1, 1), spec.uid
    )
    host = Host(tmp_path, {}, vtpm, (tmp_path / "tpm.key").read_bytes, lambda: 0.0)
    with pytest.raises(HostError, match=rf"{tmp_path}/tpm.key: .*nothing was started: restore it") as refused:
        host.vtpm(spec, 0)
    assert refused.value.code == "no-key"
    assert list(tmp_path.iterdir()) == []


def test_rejects_a_trial_of_kvm_without_room_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An emulator instead would be a tenth as quick, and nobody would know why."""

    class Here(type(Path())):  # type: ignore[misc] - as /dev/kvm were there
        def exists(self) -> bool:
            return True

        def write_bytes(self, _: bytes) -> int:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(accelerator, "Path", Here)
    with pytest.raises(HostError, match=rf"No space left.*nothing was started: .*{OVERRIDE}=kvm") as refused:
        choose({}, Rights(1, 1))
    assert refused.value.code == "no-space"
