"""Build an image from its recipe: one unified kernel image, the disk that boots it, and what it is made of."""

import hashlib
import json
import os
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import zstandard

from vmhost.errors import HostError
from vmhost.image.cpio import pack
from vmhost.image.debian import Package, unpack
from vmhost.image.esp import make_esp
from vmhost.image.recipe import Recipe
from vmhost.image.tree import gather
from vmhost.image.uki import UkiParts, build_uki
from vmhost.image.verity import VerityRoot, make_verity_root

STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
# the kernel takes frames with windows up to 128 MiB (lib/zstd): well above any initrd of ours
# more threads than one give the same bytes however many they are, and other bytes than one
LEVEL, THREADS = 19, 2
# a root that nobody can write to needs them beforehand
MOUNT_POINTS = ("proc", "sys", "dev", "run", "tmp", "var/lib", "var/tmp", "root")


@dataclass(frozen=True, slots=True)
class Built:
    """The files of a built image."""

    uki: Path
    disk: Path
    manifest: Path
    root: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """List them."""
        found = (self.uki, self.disk, self.manifest, self.root)
        return tuple(one for one in found if one is not None)


def build(recipe: Recipe, source: Path, out: Path) -> Built:
    """Build into `out`; nothing there is touched when it fails. Raises HostError."""
    if os.geteuid() != 0:
        raise HostError(
            "not-root", "packages are unpacked with their owners: expected root; run it with sudo"
        )
    out.mkdir(parents=True, exist_ok=True)
    built = Built(*(out / f"{recipe.name}.{kind}" for kind in ("efi", "img", "json")))
    if recipe.root:
        built = replace(built, root=out / f"{recipe.name}.root")
    with tempfile.TemporaryDirectory(dir=_room()) as scratch:
        root, tree = Path(scratch, "root"), Path(scratch, "tree")
        packages = unpack(recipe.packages, recipe.suite, root)
        gather(recipe, root, source, tree)
        command_line, files = recipe.command_line, _can_be_run(tree)
        if recipe.root and built.root:
            more, verity, files = _build_root(recipe.root, source, Path(scratch, "inner"), built.root)
            packages += more
            command_line = f"{command_line} {verity.words}"
        (kernel,) = sorted((root / "boot").glob("vmlinuz-*"))
        parts = UkiParts(
            stub=(root / STUB).read_bytes(),
            linux=kernel.read_bytes(),
            initrd=compress(pack(tree)),
            command_line=command_line,
            os_release=(tree / "etc/os-release").read_bytes(),
            uname=kernel.name.removeprefix("vmlinuz-"),
        )
        uki = build_uki(parts)
    if built.root:
        _new(built.root).replace(built.root)
    _replace(built.uki, uki)
    make_esp(uki, disk := _new(built.disk))
    disk.replace(built.disk)
    _replace(built.manifest, _manifest(recipe, packages, files, uki))
    return built


def compress(data: bytes) -> bytes:
    """Compress an initrd."""
    return zstandard.ZstdCompressor(level=LEVEL, threads=THREADS).compress(data)


def _build_root(
    recipe: Recipe, source: Path, scratch: Path, target: Path
) -> tuple[tuple[Package, ...], VerityRoot, dict[str, str]]:
    """Build the verified root beside `target`; return its packages, how to open it, and its programs."""
    scratch.mkdir()
    packages = unpack(recipe.packages, recipe.suite, scratch / "root")
    gather(recipe, scratch / "root", source, scratch / "tree")
    for name in MOUNT_POINTS:
        (scratch / "tree" / name).mkdir(parents=True, exist_ok=True)
    (scratch / "tree/var/run").symlink_to("../run")
    verity = make_verity_root(scratch / "tree", _new(target))
    return packages, verity, _can_be_run(scratch / "tree")


def _room() -> str | None:
    """Build in memory where there is room: half the time."""
    memory = os.statvfs("/dev/shm") if Path("/dev/shm").is_dir() else None  # noqa: S108 - a fresh directory in it
    return "/dev/shm" if memory and memory.f_bavail * memory.f_frsize > 2 << 30 else None  # noqa: S108


def _manifest(recipe: Recipe, packages: tuple[Package, ...], files: dict[str, str], uki: bytes) -> bytes:
    """Write what the image is made of: packages, and every file that can be run, for IMA."""
    content = {
        "image": recipe.name,
        "uki": hashlib.sha256(uki).hexdigest(),
        "packages": [asdict(one) for one in sorted(set(packages), key=lambda one: one.name)],
        "files": files,
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def _can_be_run(tree: Path) -> dict[str, str]:
    """Return SHA-256 by path of every program, library, module and script."""
    return {
        f"/{path.relative_to(tree)}": hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(tree.rglob("*"))
        if path.is_file() and not path.is_symlink() and is_program(path)
    }


def is_program(path: Path) -> bool:
    """Tell whether a file can be run or loaded: ELF, or a script."""
    with path.open("rb") as file:
        start = file.read(4)
    return start == b"\x7fELF" or start[:2] == b"#!"


def _new(path: Path) -> Path:
    return path.with_suffix(path.suffix + ".new")


def _replace(path: Path, data: bytes) -> None:
    _new(path).write_bytes(data)
    _new(path).replace(path)
