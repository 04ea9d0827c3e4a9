"""Record what real boots of the guest image prove, good and altered: `python -m tests.vm.record` (`make record-boots`).

With names, those alone. Each file is an evidence bundle (docs/evidence.md) that a gateway's VM took from a guest's VM under real firmware.
"""

import os
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.authn.recordings import GOOD, VIOLATION, save
from tests.vm.conftest import VmLab, running_vms, with_on_fail
from vmhost.lab.tamper import IN_PROGRAM, Alteration, alter_disk
from vmhost.lab.vms import VmPaths

PEER = "web"
ALTERED = (*IN_PROGRAM, Alteration.BOOT_OPTIONS)
# a library that can be run is mapped while it is open for writing (security/integrity/ima/ima_main.c, open_writers)
VIOLATE = """
import mmap, shutil
shutil.copy("/usr/bin/setpriv", "/tmp/mapped")
with open("/tmp/mapped", "r+b") as writer, open("/tmp/mapped", "rb") as reader:
    mmap.mmap(reader.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC)
"""
# the agent that is started anew shows the list in a handshake, and those are kept as evidence
VIOLATE_AND_ATTEST = f"kill $(pidof python3.11) && PYTHONHOME=/usr python3.11 -c '{VIOLATE}'"


@contextmanager
def refused(lab: VmLab, name: str, reason: str) -> Iterator[None]:
    """Do something that has the peer refused for this reason, and keep the evidence."""
    after = lab.last_sequence()
    yield
    lab.until(lambda: (PEER, reason, True) in lab.failures(after))
    _keep(lab, name, "--refused")
    print(f"{name}: refused, {reason}", flush=True)


def _keep(lab: VmLab, name: str, *which: str) -> None:
    with tempfile.NamedTemporaryFile() as file:
        lab.cli("evidence", "save", PEER, *which, "-o", file.name)
        save(name, Path(file.name).read_bytes())


def record(lab: VmLab, names: Collection[str]) -> None:
    """Boot the guest well, then altered in every way, each from its own disk."""
    if GOOD in names:
        _keep(lab, GOOD)
    if VIOLATION in names:
        with refused(lab, VIOLATION, "ima-violation"):
            lab.inside(PEER, VIOLATE_AND_ATTEST)
    disk = VmPaths(lab.lab, PEER).disk
    good = disk.read_bytes()
    for what in (one for one in ALTERED if one.value in names):
        with refused(lab, what.value, "reference-mismatch"):
            alter_disk(disk, what)
            lab.cli("peer", "restart", PEER)
        disk.write_bytes(good)


def main() -> None:
    with running_vms(f"brec{os.getpid()}", lambda spec: with_on_fail(spec, 'peer = "none"')) as lab:
        record(lab, sys.argv[1:] or (GOOD, VIOLATION, *ALTERED))


if __name__ == "__main__":
    main()
