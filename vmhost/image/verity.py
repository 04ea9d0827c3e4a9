"""Make a root file system that can't be changed unnoticed: erofs with a dm-verity tree behind it, in one file.

Source: kernel Documentation/admin-guide/device-mapper/verity.rst. All identifiers and the salt are fixed: the same
tree gives the same bytes. A fixed salt costs nothing here, the hash is public.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from vmhost.errors import HostError
from vmhost.image.recipe import EPOCH
from vmhost.image.tool import run_tool

_UUID = "6f2b7c1e-0d53-4c0a-9a1e-51e0a7e60001"
_SALT = "51e0a7e6" * 8
_ROOT_HASH = re.compile(r"^Root hash:\s*([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class VerityRoot:
    """What has to be known to open it: SHA-256 of the tree's root, and where the tree begins."""

    root_hash: str
    hash_offset: int

    @property
    def words(self) -> str:
        """Write it as the kernel's command line has it; it is measured there.

        The names are ours: `roothash=` alone has systemd wait 90 s for a partition (systemd-veritysetup-generator).
        """
        return f"quotegate.roothash={self.root_hash} quotegate.hashoffset={self.hash_offset}"


def make_verity_root(tree: Path, target: Path) -> VerityRoot:
    """Write the file system of a tree, everything root's, and its hashes; raises HostError."""
    target.unlink(missing_ok=True)
    argv = ["mkfs.erofs", "-zlz4hc,12", f"-T{EPOCH}", f"-U{_UUID}", "--all-root", str(target), str(tree)]
    run_tool(argv)  # with SOURCE_DATE_EPOCH set it would keep the times of older files
    offset = target.stat().st_size
    said = run_tool([
        "veritysetup", "format", f"--uuid={_UUID}", f"--salt={_SALT}", f"--hash-offset={offset}", str(target), str(target),
    ])  # fmt: skip
    found = _ROOT_HASH.search(said)
    if found is None:
        raise HostError("build-failed", f"veritysetup: expected a line `Root hash: …`, got {said[:200]!r}")
    return VerityRoot(found[1], offset)
