"""Fuzz every parser of untrusted bytes for a while: `python -m tests.fuzz [--seconds N] [TARGET...]`."""

import argparse
import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import ROOT, fuzz
from tests.fuzz.targets import TARGETS


def main() -> int:
    """Return 1 when something was found; the inputs are in build/fuzz."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)} (default: all)"
    )
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: 60)")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    total, findings = 0, 0
    for name in arguments.targets or TARGETS:
        with tempfile.TemporaryDirectory(prefix="qg-fuzz-") as corpus:
            outcome = fuzz(name, Path(corpus), arguments.seconds, ROOT / "build/fuzz")
        total, findings = total + outcome.executions, findings + bool(outcome.finding)
        print(f"{name:16} {outcome.executions:9} executions, {outcome.edges:5} edges", flush=True)
        if outcome.finding:
            print(outcome.finding, flush=True)
    print(f"{total} executions, {findings} targets with findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
