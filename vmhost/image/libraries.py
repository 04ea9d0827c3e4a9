"""Find the shared libraries that programs need, by what their ELF headers say."""

import re
from collections.abc import Iterable
from pathlib import Path

from vmhost.errors import HostError
from vmhost.image.tool import run_tool

PLACES = (
    "usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib", "lib64", "lib", "usr/lib/x86_64-linux-gnu/systemd",
    "lib/x86_64-linux-gnu/systemd",
)  # fmt: skip
_NEEDED = re.compile(r"\((?:NEEDED)\).*\[(.+)\]")
_INTERPRETER = re.compile(r"interpreter: (\S+)\]")


def libraries_of(
    root: Path, programs: Iterable[Path], opened: Iterable[str], bundled: Iterable[str] = ()
) -> list[Path]:
    """Return the libraries below `root` which programs need, directly or not; raises HostError `no-library`.

    opened: names of libraries that are opened at run time, which no header tells. bundled: names of those that
    came with a wheel.
    """
    found: dict[str, Path] = {}
    there = set(bundled)
    wanted = list(opened)
    waiting = list(programs)
    while waiting or wanted:
        while waiting:
            wanted += _needed(waiting.pop())
        name = wanted.pop()
        if name not in found and name not in there:
            found[name] = _find(root, name)
            waiting.append(found[name])
    return sorted(found.values())


def _needed(program: Path) -> list[str]:
    said = run_tool(["readelf", "--wide", "--program-headers", "--dynamic", str(program)], LC_ALL="C")
    return [*_NEEDED.findall(said), *(Path(one).name for one in _INTERPRETER.findall(said))]


def _find(root: Path, name: str) -> Path:
    for place in PLACES:
        if (path := root / place / name).exists():
            return path
    raise HostError(
        "no-library",
        f"{name} is needed by a program of the image and in none of its packages; add the package",
    )
