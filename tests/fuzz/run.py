"""Fuzz one target, or all together, under atheris (libFuzzer): `python -m tests.fuzz.run TARGET CORPUS [libFuzzer options]`.

`together` is one fuzzer for all targets: an input's first byte picks the target.
"""

import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["authn", "filters", "gateway", "hostlink", "vmhost"]):
    from tests.fuzz.targets import TARGETS

TOGETHER = "together"
NAMES = sorted(TARGETS)


def run_together(data: bytes) -> None:
    """Give the rest to the target that the first byte picks."""
    if data:
        TARGETS[NAMES[data[0] % len(NAMES)]].try_one(data[1:])


def write_corpus(name: str, folder: Path) -> None:
    """Write the seeds of a target."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, one in enumerate(NAMES):
        if name not in (one, TOGETHER):
            continue
        for at, seed in enumerate(TARGETS[one].seeds()):
            prefix = bytes([number]) if name == TOGETHER else b""
            (folder / f"seed-{one}-{at}").write_bytes(prefix + seed)


def main() -> None:
    """Never returns: libFuzzer ends the process."""
    name, folder, *options = sys.argv[1:]
    write_corpus(name, Path(folder))
    target = run_together if name == TOGETHER else TARGETS[name].try_one
    atheris.Setup([sys.argv[0], *options, folder], target)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
