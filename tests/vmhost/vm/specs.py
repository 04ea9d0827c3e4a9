"""A VM's settings to vary."""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from vmhost.vm.spec import Accelerator, VmSpec


def small(**changes: Any) -> VmSpec:
    base = VmSpec(
        name="guest-a",
        uuid="4c4c4544-0000-4000-8000-000000000001",
        mac="52:54:0a:00:00:02",
        memory_mib=256,
        cpus=1,
        tap="pabcdef0123",
        namespace="qg-lab--host",
        firmware_code=Path("/golden/OVMF_CODE.fd"),
        firmware_vars=Path("/vms/guest-a/vars.fd"),
        accelerator=Accelerator.TCG,
        run_dir=Path("/run/quotegate/lab/vm/guest-a"),
        tpm_socket=Path("/run/quotegate/lab/vm/guest-a/swtpm.ctrl"),
        uid=64400,
        gid=64400,
    )
    return replace(base, **changes)


def open_fds() -> set[str]:
    """What this process has open."""
    return {f"{fd.name}:{fd.readlink()}" for fd in _numbers()}


def _numbers() -> list[Path]:
    return [fd for fd in Path("/proc/self/fd").iterdir() if os.path.lexists(fd)]
