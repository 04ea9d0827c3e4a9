"""Gather what an image holds: the recipe's files, programs with their libraries, Python, our code, modules."""

import shutil
import sys
import sysconfig
from collections.abc import Iterable
from fnmatch import fnmatch
from pathlib import Path

from vmhost.errors import HostError
from vmhost.image.generated import add_generated
from vmhost.image.libraries import libraries_of
from vmhost.image.modules import modules_in_order
from vmhost.image.recipe import Recipe
from vmhost.image.tool import run_tool

CODE, STANDARD_LIBRARY = Path("usr/lib/quotegate"), Path("usr/lib/python3.11")
_NEVER = ("__pycache__", "*.pyc", "*.pyi", "*.pxd", "*.h", "*.dist-info", "tests")


def gather(recipe: Recipe, root: Path, source: Path, tree: Path) -> None:
    """Fill `tree` from the unpacked packages below `root` and our sources; raises HostError."""
    tree.mkdir()
    shutil.copytree(recipe.directory / "files", tree, dirs_exist_ok=True)
    (tree / "usr").mkdir(exist_ok=True)
    for merged in ("bin", "sbin", "lib", "lib64"):
        (tree / merged).symlink_to("usr/lib" if merged.startswith("lib") else "usr/bin")
    (tree / "usr/sbin").symlink_to("bin")
    programs = [tree / "usr/bin" / Path(name).name for name in recipe.programs]
    for name, program in zip(recipe.programs, programs, strict=True):
        _copy(_resolved(root, root / name), program)
    kept = [_keep(root, name, tree) for name in recipe.data]
    if recipe.code:
        _add_python(recipe, root, source, tree)
    shared = [one for one in tree.rglob("*.so*") if one.is_file()]
    binaries = [one for one in (*programs, *kept, *shared) if _is_binary(one)]
    for library in libraries_of(root, binaries, recipe.libraries, {one.name for one in shared}):
        _copy(_resolved(root, library), tree / "usr/lib" / library.name)
    modules = modules_in_order(root, recipe.modules)
    for module in modules:
        _copy(module, tree / "usr/lib/modules" / module.name)
    if modules:
        (tree / "etc/modules").write_text("".join(f"{one.name}\n" for one in modules))


def _add_python(recipe: Recipe, root: Path, source: Path, tree: Path) -> None:
    copy_tree(root / STANDARD_LIBRARY, tree / STANDARD_LIBRARY, recipe.left_out)
    for package in recipe.code:
        copy_tree(source / package, tree / CODE / package, recipe.left_out)
    install_wheels(recipe.wheels, source / "requirements.lock", tree / CODE)
    add_generated(tree / CODE, sorted({Path(name).parts[0] for name in recipe.code}), source)
    compile_ahead(tree, STANDARD_LIBRARY, CODE)


def _keep(root: Path, name: str, tree: Path) -> Path:
    """Copy a file to its own path, as it is in a system where /lib is /usr/lib."""
    path = _resolved(root, root / name)
    target = tree / ("usr/" + name if name.startswith(("lib/", "bin/", "sbin/")) else name)
    _copy(path, target)
    target.chmod(0o755 if path.stat().st_mode & 0o111 else 0o644)
    return target


def _is_binary(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"


def install_wheels(names: Iterable[str], lock: Path, target: Path) -> None:
    """Install locked packages, each checked against its hash in the lock file; raises HostError."""
    wanted = set(names)
    entries = _lock_entries(lock)
    if missing := wanted - set(entries):
        raise HostError("not-locked", f"{', '.join(sorted(missing))}: not in {lock.name}; lock them first")
    subset = target / "wheels.lock"
    target.mkdir(parents=True, exist_ok=True)
    subset.write_text("".join(entries[name] for name in sorted(wanted)))
    argv = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-deps",
        "--no-compile",
        "--require-hashes",
    ]
    # what has to be compiled gives the same bytes each time
    run_tool([*argv, "--target", str(target), "-r", str(subset)], CFLAGS="-g0", SOURCE_DATE_EPOCH="315532800")
    subset.unlink()
    for path in sorted(target.rglob("*"), reverse=True):
        if any(fnmatch(path.name, pattern) for pattern in _NEVER) or path == target / "bin":
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _lock_entries(lock: Path) -> dict[str, str]:
    entries: dict[str, str] = {}
    name = ""
    for line in lock.read_text().splitlines(keepends=True):
        if line[:1].isalnum():
            name = line.partition("==")[0]
            entries[name] = ""
        if name and not line.lstrip().startswith("#"):
            entries[name] += line
    return entries


def _resolved(root: Path, path: Path) -> Path:
    """Follow links as they are meant below `root`."""
    for _ in range(10):
        if not path.is_symlink():
            return path
        aim = path.readlink()
        path = root / aim.relative_to("/") if aim.is_absolute() else path.parent / aim
    raise HostError("bad-link", f"{path}: more than ten links behind each other")


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        raise HostError("not-there", f"{source}: {error.strerror}; correct the recipe") from error
    target.chmod(0o755)


def copy_tree(source: Path, target: Path, left_out: tuple[str, ...]) -> None:
    """Copy a source file, or a tree without what matches `left_out` (a name, or a path below `source`) and what nobody runs."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return
    patterns = (*left_out, *_NEVER)

    def ignored(directory: str, names: list[str]) -> set[str]:
        inside = Path(directory).relative_to(source)
        return {
            name
            for name in names
            if any(fnmatch(name, one) or fnmatch(str(inside / name), one) for one in patterns)
        }

    shutil.copytree(source, target, ignore=ignored, symlinks=False, ignore_dangling_symlinks=True)


def compile_ahead(tree: Path, *directories: Path) -> None:
    """Compile all Python in a tree's directories: a guest that starts has no time for it. The bytes don't depend on when or where."""
    if sysconfig.get_python_version() != "3.11":
        raise HostError(
            "wrong-python", f"expected Python 3.11, as in the image, got {sysconfig.get_python_version()}"
        )
    for directory in directories:
        argv = [
            sys.executable, "-m", "compileall", "-q", "-f", "--invalidation-mode", "unchecked-hash",
            "-s", str(tree), "-p", "/", str(tree / directory),
        ]  # fmt: skip
        run_tool(argv, PYTHONHASHSEED="0")
