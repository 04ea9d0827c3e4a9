"""Find the kernel modules that an image loads, in the order in which they have to be loaded."""

from collections.abc import Iterable
from pathlib import Path

from vmhost.errors import HostError
from vmhost.image.tool import run_tool


def modules_in_order(root: Path, wanted: Iterable[str]) -> list[Path]:
    """Return module files, each behind all it depends on; raises HostError `no-module`."""
    there = {_name(path.name): path for path in sorted((root / "lib/modules").rglob("*.ko"))}
    order: dict[str, Path] = {}

    def add(name: str) -> None:
        if name in order:
            return
        if name not in there:
            raise HostError("no-module", f"the image's kernel has no module {name}; correct the recipe")
        for other in run_tool(["modinfo", "--field", "depends", str(there[name])]).strip().split(","):
            if other:
                add(_name(other))
        order[name] = there[name]

    for one in wanted:
        add(_name(one))
    return list(order.values())


def _name(text: str) -> str:
    return text.removesuffix(".ko").replace("-", "_")
