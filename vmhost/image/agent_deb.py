"""Put the agent into a Debian package, for guests that others build: our code, the locked wheels, a unit, a user.

The same sources give the same bytes: names are sorted, times and owners fixed, nothing compressed in parallel.
"""

import hashlib
import os
import shutil
import tempfile
import tomllib
from pathlib import Path

from vmhost.errors import HostError
from vmhost.image.recipe import EPOCH, Recipe
from vmhost.image.tool import run_tool
from vmhost.image.tree import compile_ahead, copy_tree, install_wheels

CODE = Path("usr/lib/quotegate-agent")
SETTINGS, DOCUMENTATION = Path("etc/quotegate-agent"), Path("usr/share/doc/quotegate-agent")
GUIDE = "own-guest.md"
DESCRIPTION = """Prove this machine to a Quotegate gateway
 The agent of a guest behind a Quotegate gateway: it answers the gateway's challenges with quotes of this
 machine's TPM, and opens sessions with other guests for local programs."""


def build_agent_deb(source: Path, out: Path) -> Path:
    """Build the package into `out` and return it; raises HostError."""
    recipe = Recipe.load(source / "appliance-image" / "agent-deb")
    version = version_of(source)
    target = out / f"{recipe.name}_{version}_amd64.deb"
    try:
        _build(recipe, version, source, target)
    except OSError as error:
        raise HostError(
            "build-failed",
            f"{error.filename or out}: building {target.name} into {out}: {error.strerror or error}; mend that, build again",
        ) from error
    return target


def _build(recipe: Recipe, version: str, source: Path, target: Path) -> None:
    """Put it in the place of the one before; raises HostError, OSError."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        tree = Path(scratch, "tree")
        shutil.copytree(recipe.directory / "files", tree)
        for name in recipe.code:
            copy_tree(source / name, tree / CODE / name, recipe.left_out)
        install_wheels(recipe.wheels, source / "requirements.lock", tree / CODE)
        compile_ahead(tree, CODE)
        (tree / SETTINGS).mkdir(parents=True)
        shutil.copyfile(source / "docs" / GUIDE, tree / DOCUMENTATION / GUIDE)
        sums, size = _sums(tree), sum(one.stat().st_size for one in tree.rglob("*") if one.is_file())
        shutil.copytree(recipe.directory / "debian", tree / "DEBIAN")
        (tree / "DEBIAN/md5sums").write_text(sums)
        (tree / "DEBIAN/control").write_text(control(recipe, version, size))
        _settle(tree)
        argv = ["dpkg-deb", "--root-owner-group", "-Zxz", "--threads-max=1", "--build", str(tree)]
        run_tool([*argv, str(built := Path(scratch, target.name))], SOURCE_DATE_EPOCH=str(EPOCH))
        shutil.copyfile(built, new := target.with_suffix(".new"))
        new.replace(target)


def version_of(source: Path) -> str:
    """Read the product's version; raises HostError."""
    try:
        return str(tomllib.loads((source / "pyproject.toml").read_text())["project"]["version"])
    except (OSError, tomllib.TOMLDecodeError, KeyError) as error:
        raise HostError(
            "no-version", f"{source}/pyproject.toml: expected a project with a version: {error}"
        ) from error


def control(recipe: Recipe, version: str, size: int) -> str:
    """Write what dpkg reads of a package (deb-control(5)). Pure."""
    fields = {
        "Package": recipe.name,
        "Version": version,
        "Architecture": "amd64",
        "Maintainer": "Quotegate <root@localhost>",
        "Installed-Size": -(-size // 1024),
        "Depends": ", ".join(recipe.packages),
        "Section": "net",
        "Priority": "optional",
        "Description": DESCRIPTION,
    }
    return "".join(f"{name}: {value}\n" for name, value in fields.items())


def _sums(tree: Path) -> str:
    """Write what `dpkg --verify` compares with. It shows accidents; who alters files alters this too."""
    return "".join(
        f"{hashlib.md5(one.read_bytes(), usedforsecurity=False).hexdigest()}  {one.relative_to(tree)}\n"
        for one in sorted(tree.rglob("*"))
        if one.is_file()
    )


def _settle(tree: Path) -> None:
    """Give every file one time, and a mode that says no more than whether it can be run."""
    for path in (tree, *tree.rglob("*")):
        runs = path.is_dir() or path.parent.name == "DEBIAN" or path.read_bytes()[:2] == b"#!"
        path.chmod(0o755 if runs else 0o644)
        os.utime(path, (EPOCH, EPOCH))
