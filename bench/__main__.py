"""`make bench`: measure, print a table, write JSON."""

import argparse
import json
import os
import platform
import sys
from pathlib import Path

from bench import (
    content,
    crowd,
    datagrams,
    inspection,
    kernel,
    lab,
    policy,
    reference,
    renewal,
    rules,
    verify,
)

SUITES = {
    "verify": verify.measure,
    "kernel": kernel.measure,
    "lab": lab.measure,
    "inspection": inspection.measure,
    "reference": reference.measure,
    "datagrams": datagrams.measure,
    "content": content.measure,
    "rules": rules.measure,
    "policy": policy.measure,
    "renewal": renewal.measure,
    "crowd": crowd.measure,
}


def main() -> None:
    """Run the suites; exit 4 when a target is missed."""
    parser = argparse.ArgumentParser(prog="bench", description="Measure what Quotegate promises.")
    parser.add_argument("--only", choices=SUITES, help="run one suite")
    parser.add_argument("--rounds", type=int, default=7, help="rounds a figure, at least 5 (default: 7)")
    parser.add_argument("--json", type=Path, default=Path("bench-results.json"), help="where the JSON goes")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("bench: it makes network namespaces: run it as root")
    rounds = max(5, arguments.rounds)
    machine = f"{os.cpu_count()} cores, kernel {platform.release()}, Python {platform.python_version()}"
    print(
        f"{machine}; {rounds} rounds, medians, 95 % bootstrap intervals; the machine may be noisy\n",
        flush=True,
    )
    figures = []
    for name, measure in SUITES.items():
        if arguments.only in (None, name):
            for figure in measure(rounds):
                figures.append(figure)
                print(figure.row(), flush=True)
    arguments.json.write_text(
        json.dumps({"machine": machine, "figures": [one.to_json() for one in figures]}, indent=1) + "\n"
    )
    missed = [one.name for one in figures if one.verdict() == "missed"]
    print(
        f"\n{len(figures)} figures, {len(missed)} missed{': ' + ', '.join(missed) if missed else ''}; JSON in {arguments.json}"
    )
    sys.exit(4 if missed else 0)


if __name__ == "__main__":
    main()
