"""QEMU's command line is golden: a change of the builder is reviewed as a change of these files.

`QUOTEGATE_UPDATE_GOLDEN=1 pytest tests/vmhost/vm/test_argv.py` writes them anew.
"""

import os
from pathlib import Path

import pytest

from tests.vmhost.vm.specs import small
from vmhost.errors import HostError
from vmhost.process import Rights
from vmhost.vm.argv import Handles, qemu_argv
from vmhost.vm.spec import Accelerator, Disk, VmSpec
from vmhost.vm.vtpm import VtpmSpec, vtpm_argv

GOLDEN = Path(__file__).parent / "golden"
DISKS = (Disk(Path("/images/gateway.raw"), True), Disk(Path("/vms/guest-a/state.raw"), False))
GUEST_DISKS = (Disk(Path("/vms/guest-a/boot.img"), True), Disk(Path("/vms/guest-a/settings.tar"), True))
CASES = {
    "diskless-tcg": (small(), Handles((5,), (6, 7), (), 8, 9, 10)),
    "disks-kvm": (
        small(accelerator=Accelerator.KVM, disks=DISKS, memory_mib=1024, cpus=2),
        Handles((5,), (6, 7), ((10,), (11, 12)), 8, 9, 10),
    ),
    "line-to-the-host": (small(host_link=True), Handles((5,), (6, 7), (), 8, 9, 10, 11)),
    "guest-of-a-lab": (
        small(host_link=True, disks=GUEST_DISKS, memory_mib=512),
        Handles((5,), (6, 7), ((10,), (11,)), 8, 9, 12, 13),
    ),
}


def check_golden(name: str, argv: tuple[str, ...]) -> None:
    text, path = "\n".join(argv) + "\n", GOLDEN / name
    if os.environ.get("QUOTEGATE_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("case", CASES)
def test_command_line_is_golden(case: str) -> None:
    check_golden(f"{case}.argv", qemu_argv(*CASES[case]))


def test_tpm_command_line_is_golden() -> None:
    spec = VtpmSpec("a", "n", Path("/state/a"), Path("/run/a"), Path("/log"), Rights(64300, 64300), 64400)
    check_golden("swtpm.argv", vtpm_argv(spec, 4, 5))


def test_no_credentials_reach_the_guest_by_smbios_or_fw_cfg() -> None:
    for case in CASES.values():
        assert not {"-smbios", "-fw_cfg", "-kernel", "-append", "-bios"} & set(qemu_argv(*case))


def test_every_file_in_a_set_is_inherited_and_no_path_is_opened() -> None:
    spec, handles = CASES["disks-kvm"]
    argv = qemu_argv(spec, handles)
    assert {word.split(",")[0] for word in argv if word.startswith("fd=")} == {
        f"fd={fd}" for fd in handles.all() if fd != handles.qmp
    }
    assert not any(str(disk.path) in word for disk in DISKS for word in argv)


def test_a_comma_in_a_path_is_no_further_option() -> None:
    spec = small(tpm_socket=Path("/run/a,server=on/t"))
    assert "socket,id=tpm,path=/run/a,,server=on/t" in qemu_argv(spec, CASES["diskless-tcg"][1])


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "a,b"},
        {"name": ""},
        {"uuid": "4C4C4544-0000-4000-8000-000000000001"},
        {"uuid": "no"},
        {"mac": "53:54:0a:00:00:02"},
        {"mac": "52:54:0a:00:00:02,romfile=/etc/shadow"},
        {"memory_mib": 1},
        {"cpus": 0},
        {"tap": "tap0,script=/bin/sh"},
        {"tap": "a" * 16},
        {"namespace": "../host"},
        {"uid": 0},
        {"disks": (Disk(Path("/d"), True),) * 9},
    ],
    ids=str,
)
def test_settings_that_are_none(changes: dict[str, object]) -> None:
    with pytest.raises(HostError, match=f"checked {next(iter(changes))}: expected .*, got .*; ") as refused:
        small(**changes)
    assert refused.value.code == "bad-spec"


def test_only_raw_disks() -> None:
    with pytest.raises(HostError, match="expected raw, got 'qcow2'"):
        Disk(Path("/d"), False, "qcow2")


def test_the_tpm_has_a_uid_of_its_own() -> None:
    spec: VmSpec = small()
    for uid in (0, spec.uid):
        with pytest.raises(HostError, match="not QEMU's"):
            VtpmSpec("a", "n", Path("/s"), Path("/r"), Path("/l"), Rights(uid, 1), spec.uid)
