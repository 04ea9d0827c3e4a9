"""Build an image from its recipe: one unified kernel image, the disk that boots it, and what it is made of."""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import zstandard

from vmhost.errors import HostError
from vmhost.image.cpio import pack
from vmhost.image.debian import Package, unpack
from vmhost.image.esp import make_esp
from vmhost.image.recipe import Recipe
from vmhost.image.tree import gather
from vmhost.image.uki import UkiParts, build_uki

STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
# the kernel takes frames with windows up to 128 MiB (lib/zstd): well above any initrd of ours
LEVEL = 19


@dataclass(frozen=True, slots=True)
class Built:
    """The files of a built image."""

    uki: Path
    disk: Path
    manifest: Path


def build(recipe: Recipe, source: Path, out: Path) -> Built:
    """Build into `out`; nothing there is touched when it fails. Raises HostError."""
    if os.geteuid() != 0:
        raise HostError(
            "not-root", "packages are unpacked with their owners: expected root; run it with sudo"
        )
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=_room()) as scratch:
        root, tree = Path(scratch, "root"), Path(scratch, "tree")
        packages = unpack(recipe.packages, recipe.suite, root)
        gather(recipe, root, source, tree)
        (kernel,) = sorted((root / "boot").glob("vmlinuz-*"))
        parts = UkiParts(
            stub=(root / STUB).read_bytes(),
            linux=kernel.read_bytes(),
            initrd=zstandard.ZstdCompressor(level=LEVEL).compress(pack(tree)),
            command_line=recipe.command_line,
            os_release=(tree / "etc/os-release").read_bytes(),
            uname=kernel.name.removeprefix("vmlinuz-"),
        )
        built = Built(out / f"{recipe.name}.efi", out / f"{recipe.name}.img", out / f"{recipe.name}.json")
        uki = build_uki(parts)
        manifest = _manifest(recipe, packages, tree, uki)
    _replace(built.uki, uki)
    make_esp(uki, disk := built.disk.with_suffix(".new"))
    disk.replace(built.disk)
    _replace(built.manifest, manifest)
    return built


def _room() -> str | None:
    """Build in memory where there is room: half the time."""
    memory = os.statvfs("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108 - a fresh directory in it
    return "/dev/shm" if memory and memory.f_bavail * memory.f_frsize > 2 << 30 else None  # noqa: S108


def _manifest(recipe: Recipe, packages: tuple[Package, ...], tree: Path, uki: bytes) -> bytes:
    """Write what the image is made of: packages, and every file that can be run, for IMA."""
    files = {
        f"/{path.relative_to(tree)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(tree.rglob("*"))
        if path.is_file() and not path.is_symlink() and _can_be_run(path)
    }
    content = {
        "image": recipe.name,
        "uki": hashlib.sha256(uki).hexdigest(),
        "packages": [asdict(one) for one in packages],
        "files": files,
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def _can_be_run(path: Path) -> bool:
    with path.open("rb") as file:
        start = file.read(4)
    return start == b"\x7fELF" or start[:2] == b"#!"


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_suffix(path.suffix + ".new")
    temporary.write_bytes(data)
    temporary.replace(path)
