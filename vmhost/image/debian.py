"""Unpack Debian packages into a directory, from the mirrors that this machine's apt is configured with."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from vmhost.errors import HostError
from vmhost.image.recipe import EPOCH
from vmhost.image.tool import run_tool

SOURCES = Path("/etc/apt/sources.list.d/debian.sources"), Path("/etc/apt/sources.list")


@dataclass(frozen=True, slots=True)
class Package:
    """A package that went into an image."""

    name: str
    version: str
    sha256: str


def unpack(packages: tuple[str, ...], suite: str, root: Path) -> tuple[Package, ...]:
    """Unpack packages with all they depend on; nothing of them is run. Return them; raises HostError."""
    sources = next((str(one) for one in SOURCES if one.is_file()), None)
    if sources is None:
        expected = " or ".join(map(str, SOURCES))
        raise HostError("no-packages", f"apt's sources: expected {expected}, found neither; write one")
    argv = [
        "mmdebstrap", "--quiet", "--mode=root", "--variant=extract", f"--include={','.join(packages)}",
        "--skip=cleanup/apt,download/empty", suite, str(root), sources,
    ]  # fmt: skip
    run_tool(argv, SOURCE_DATE_EPOCH=str(EPOCH))
    archives = sorted((root / "var/cache/apt/archives").glob("*.deb"))
    return tuple(_package(one) for one in archives)


def _package(archive: Path) -> Package:
    name, version, _ = unquote(archive.stem).split("_")
    return Package(name, version, hashlib.sha256(archive.read_bytes()).hexdigest())
