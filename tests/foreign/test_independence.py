"""The foreign peer and the attackers share no code with Quotegate: neither by import nor by its clients."""

import ast
import sys
from pathlib import Path

import pytest

PROGRAMS = sorted(
    path
    for folder in ("tests/foreign", "tests/attackers")
    for path in Path(folder).glob("*.py")
    if not path.name.startswith("test_")
)
ALLOWED = {"cryptography", *sys.stdlib_module_names}
OURS = ("tests.foreign", "tests.attackers")


def imported(path: Path) -> set[str]:
    """Every module that a file names, wherever the import stands."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports can't be judged"
            names.add(str(node.module))
    return names


@pytest.mark.parametrize("path", PROGRAMS, ids=str)
def test_imports_nothing_of_quotegate(path: Path) -> None:
    for name in imported(path):
        assert name.partition(".")[0] in ALLOWED or name.startswith(OURS), f"{path} imports {name}"
        assert name.partition(".")[0] not in ("importlib", "runpy"), f"{path} could import by another way"


def test_there_are_programs_to_judge() -> None:
    assert {"tests/foreign/peer.py", "tests/foreign/wire.py"} <= set(map(str, PROGRAMS))


def test_an_import_of_the_gateway_would_be_seen(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("def f():\n    from authn import quote\n")
    assert imported(program) == {"authn"}
