"""Describe a system that somebody else built, as `quotegate image build` describes ours: its UKI, and what in it can be run."""

import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from vmhost.errors import HostError
from vmhost.image.build import is_program
from vmhost.image.predict import predict
from vmhost.image.references import Image, check_name


def describe(name: str, root: Path, uki: Path, out: Path) -> Image:
    """Write `NAME.efi` and `NAME.json` into `out`, ready to be signed; raises HostError.

    `root` is the system's root file system, mounted somewhere or the running one. Other file systems mounted below
    it are left out.
    """
    check_name(name)
    try:
        program = uki.read_bytes()
        predict(program)  # what can't be predicted can't be signed either
        files = {_in_words(path): _digest(root, path) for path in sorted(_can_be_run(root))}
        if not files:
            raise HostError("bad-root", f"{root}: expected a system's root, found no file that can be run")
        out.mkdir(parents=True, exist_ok=True)
        (out / f"{name}.efi").write_bytes(program)
        content = {"image": name, "uki": hashlib.sha256(program).hexdigest(), "packages": [], "files": files}
        (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    except OSError as error:
        raise HostError(
            "not-described",
            f"{error.filename}: {error.strerror}; expected a UKI, a root file system and room in {out}; run it as root",
        ) from error
    return Image.load(out, name)


def _can_be_run(root: Path) -> Iterator[str]:
    device = root.stat().st_dev
    for directory, below, names in os.walk(root):
        below[:] = [one for one in below if Path(directory, one).lstat().st_dev == device]
        for path in (Path(directory, one) for one in names):
            if path.is_file() and not path.is_symlink() and is_program(path):
                yield f"/{path.relative_to(root)}"


def _in_words(path: str) -> str:
    """Write a path for people, who alone read it; a name may have bytes that are no UTF-8, and nothing signed can have."""
    return os.fsencode(path).decode(errors="backslashreplace")


def _digest(root: Path, path: str) -> str:
    with Path(root, path[1:]).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
