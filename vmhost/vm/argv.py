"""Build QEMU's command line (qemu-system-x86_64 7.2): a pure function of the VM and the files opened for it.

QEMU opens none of the VM's files by path. It gets them open, in fd sets (`/dev/fdset/N`): what was measured is
what it reads, and it needs no right to the directories they lie in. A writable file is in its set twice, since
QEMU looks at it read-only before it writes.

Nothing is handed to the guest by SMBIOS or fw_cfg options: systemd takes credentials from there, which no PCR
shows. A guest's reset ends QEMU: the next start is measured again, and a TPM's reset is a power cycle.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from vmhost.vm.spec import Accelerator, Disk, VmSpec

QEMU = "qemu-system-x86_64"
SANDBOX = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"
FIRMWARE_SET, VARS_SET, CONSOLE_SET, FIRST_DISK_SET = 1, 2, 3, 10
# fixed places on the bus: the firmware's boot options name them, and PCRs cover those
LINK_NAME = "quotegate"
_NET_SLOT, _RNG_SLOT, _LINK_SLOT, _FIRST_DISK_SLOT = 0x02, 0x03, 0x04, 0x10
# the emulator runs `rep movsb` and `rep stosb` byte by byte: a kernel that is told they are fast clears pages eight times slower
_CPU = {Accelerator.KVM: "host", Accelerator.TCG: "max,-erms"}
_OFFLOADS = (
    "csum=on,gso=on,guest_csum=on,guest_tso4=on,guest_tso6=on,guest_ecn=on,guest_ufo=off,"
    "host_tso4=on,host_tso6=on,host_ecn=on,host_ufo=off,mrg_rxbuf=on"
)


@dataclass(frozen=True, slots=True)
class Handles:
    """The open files that QEMU inherits, by number: each as one read-only, or as (read-write, read-only)."""

    firmware: tuple[int, ...]
    variables: tuple[int, ...]
    disks: tuple[tuple[int, ...], ...]
    console: int  # to append to
    qmp: int  # a listening unix socket
    recovery: int  # another
    link: int | None = None  # one more, for a VM with a line to the host

    def sets(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        """Name the fd sets with their members."""
        yield FIRMWARE_SET, self.firmware
        yield VARS_SET, self.variables
        yield CONSOLE_SET, (self.console,)
        yield from enumerate(self.disks, FIRST_DISK_SET)

    def all(self) -> tuple[int, ...]:
        """List every number."""
        return (
            *(fd for _, members in self.sets() for fd in members),
            self.qmp,
            self.recovery,
            *(() if self.link is None else (self.link,)),
        )


def qemu_argv(spec: VmSpec, handles: Handles) -> tuple[str, ...]:
    """Return QEMU's whole command line; it comes up paused and waits for `cont`."""
    accelerator = spec.accelerator
    return (
        QEMU, "-name", spec.name, "-uuid", spec.uuid,
        "-nodefaults", "-no-user-config", "-display", "none", "-sandbox", SANDBOX,
        "-machine", f"q35,accel={accelerator},smm=off,vmport=off,dump-guest-core=off,mem-merge=off",
        "-cpu", _CPU[accelerator], "-smp", str(spec.cpus), "-m", f"{spec.memory_mib}M",
        "-action", "reboot=shutdown,panic=shutdown", "-S",
        *_fd_sets(handles),
        "-drive", f"if=pflash,unit=0,format=raw,readonly=on,file=/dev/fdset/{FIRMWARE_SET}",
        "-drive", f"if=pflash,unit=1,format=raw,readonly=off,file=/dev/fdset/{VARS_SET}",
        "-chardev", f"file,id=console,path=/dev/fdset/{CONSOLE_SET},append=on", "-serial", "chardev:console",
        "-chardev", f"socket,id=recovery,fd={handles.recovery},server=on,wait=off", "-serial", "chardev:recovery",
        "-chardev", f"socket,id=qmp,fd={handles.qmp},server=on,wait=off", "-mon", "chardev=qmp,mode=control",
        "-chardev", f"socket,id=tpm,path={_quoted(spec.tpm_socket)}",
        "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-tis,tpmdev=tpm0",
        "-netdev", f"tap,id=net0,ifname={spec.tap},script=no,downscript=no,vnet_hdr=on,vhost=off",
        "-device", f"virtio-net-pci,netdev=net0,mac={spec.mac},{_slot(_NET_SLOT)},romfile=,{_OFFLOADS}",
        "-object", "rng-random,id=rng0,filename=/dev/urandom",
        "-device", f"virtio-rng-pci,rng=rng0,{_slot(_RNG_SLOT)},max-bytes=4096,period=1000",
        *(word for number, disk in enumerate(spec.disks) for word in _disk(number, disk)),
        *(() if handles.link is None else _link(handles.link)),
    )  # fmt: skip


def _fd_sets(handles: Handles) -> Iterator[str]:
    for number, members in handles.sets():
        for fd in members:
            yield "-add-fd"
            yield f"fd={fd},set={number}"


def _disk(number: int, disk: Disk) -> tuple[str, ...]:
    readonly = "on" if disk.readonly else "off"
    # only the first has a place in the boot order: the firmware tries neither the others nor the network
    boot = ",bootindex=0" if number == 0 else ""
    return (
        "-drive", f"if=none,id=disk{number},format={disk.format},readonly={readonly},file=/dev/fdset/{FIRST_DISK_SET + number}",
        "-device", f"virtio-blk-pci,drive=disk{number},{_slot(_FIRST_DISK_SLOT + number)}{boot}",
    )  # fmt: skip


def _link(fd: int) -> tuple[str, ...]:
    return (
        "-chardev", f"socket,id=link,fd={fd},server=on,wait=off",
        "-device", f"virtio-serial-pci,id=serial,{_slot(_LINK_SLOT)},max_ports=2",
        "-device", f"virtserialport,bus=serial.0,nr=1,chardev=link,name={LINK_NAME}",
    )  # fmt: skip


def _slot(number: int) -> str:
    return f"bus=pcie.0,addr={number:#04x}"


def _quoted(path: Path) -> str:
    """Write a path as an option's value: a comma is doubled."""
    return str(path).replace(",", ",,")
