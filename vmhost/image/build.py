"""Build an image from its recipe: one unified kernel image, the disk that boots it, and what it is made of."""

import hashlib
import json
import os
import tempfile
from contextlib import suppress
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
    built = Built(*(out / f"{recipe.name}.{kind}" for kind in ("efi", "img", "json")))
    if recipe.root:
        built = replace(built, root=out / f"{recipe.name}.root")
    try:
        out.mkdir(parents=True, exist_ok=True)
        _build_beside(built, recipe, source)
        for one in built.files:
            _new(one).replace(one)
    except OSError as error:
        raise HostError(
            "build-failed",
            f"{error.filename or out}: building {recipe.name} into {out}: {error.strerror or error}; what was there is as it was: "
            "mend that, build again",
        ) from error
    finally:
        for one in built.files:
            with suppress(OSError):
                _new(one).unlink()
    return built


def _build_beside(built: Built, recipe: Recipe, source: Path) -> None:
    """Write the new files beside those of before; raises HostError, OSError."""
    with tempfile.TemporaryDirectory(dir=_room()) as scratch:
        root, tree = Path(scratch, "root"), Path(scratch, "tree")
        packages = unpack(recipe.packages, recipe.suite, root)
        gather(recipe, root, source, tree)
        command_line, files = recipe.command_line, _can_be_run(tree)
        if recipe.root and built.root:
            more, verity, files = _build_root(recipe.root, source, Path(scratch, "inner"), built.root)
            packages += more
            command_line = f"{command_line} {verity.words}"
        kernel = kernel_of(root)
        parts = UkiParts(
            stub=(root / STUB).read_bytes(),
            linux=kernel.read_bytes(),
            initrd=compress(pack(tree)),
            command_line=command_line,
            os_release=(tree / "etc/os-release").read_bytes(),
            uname=kernel.name.removeprefix("vmlinuz-"),
        )
        uki = build_uki(parts)
    _new(built.uki).write_bytes(uki)
    make_esp(uki, _new(built.disk))
    _new(built.manifest).write_bytes(_manifest(recipe, packages, files, uki))


def kernel_of(root: Path) -> Path:
    """Return the one kernel of the unpacked packages; raises HostError `bad-recipe`."""
    found = sorted((root / "boot").glob("vmlinuz-*"))
    if len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        raise HostError(
            "bad-recipe",
            f"looked for a kernel in the recipe's packages: expected one, got {names}; correct them",
        )
    return found[0]


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
