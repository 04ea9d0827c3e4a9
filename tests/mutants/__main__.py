"""Remove each check of the verifier in a copy and see that exactly its named test fails: `python -m tests.mutants`."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.mutants.verifier import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 120
_FAILED = re.compile(r"^(?:FAILED|ERROR) [^:]+::(\w+)", re.MULTILINE)


def failing_tests(root: Path, mutant: Mutant) -> set[str]:
    """Run the mutant's test module on this copy of the code and name what fails."""
    argv = [
        sys.executable,
        "-B",
        "-m",
        "pytest",
        "-q",
        "--tb=no",
        "-rfE",
        "-p",
        "no:cacheprovider",
        "-k",
        "not any_bytes",
        "--basetemp",
        str(root / "t"),
        mutant.module,
    ]
    environment = {**os.environ, "PYTHONPATH": str(root)}
    result = subprocess.run(
        argv, cwd=root, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S
    )
    if result.returncode not in (0, 1):
        return {f"pytest ended with {result.returncode}: {result.stdout[-300:]}{result.stderr[-300:]}"}
    return set(_FAILED.findall(result.stdout))


def judge(mutant: Mutant) -> str | None:
    """Return what is wrong with this mutant; None: exactly its test failed."""
    with TemporaryDirectory(prefix="qg-mutant-") as directory:
        root = Path(directory)
        for name in ("authn", "tests"):
            shutil.copytree(
                ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__", ".hypothesis")
            )
        shutil.copy(ROOT / "pyproject.toml", root)
        file = root / "authn" / mutant.file
        file.write_text(file.read_text().replace(mutant.before, mutant.after))
        failed = failing_tests(root, mutant)
    if failed == {mutant.function}:
        return None
    return f"expected {mutant.function} alone to fail, got {', '.join(sorted(failed)) or 'no failure at all'}"


def main() -> int:
    """Judge all mutants, two at a time; return how many are not as they should be."""
    chosen = [one for one in MUTANTS if not sys.argv[1:] or one.file in sys.argv[1:]]
    wrong = 0
    with ThreadPoolExecutor(2) as pool:
        for mutant, fault in zip(chosen, pool.map(judge, chosen), strict=True):
            first = mutant.before.strip().splitlines()[0]
            print(f"{'ok    ' if fault is None else 'WRONG '} {mutant.file}: without `{first}`", flush=True)
            if fault is not None:
                wrong += 1
                print(f"       {fault}", flush=True)
    print(f"{len(chosen)} checks removed one by one, {wrong} not noticed by exactly their test")
    return wrong


if __name__ == "__main__":
    sys.exit(bool(main()))
