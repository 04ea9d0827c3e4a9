"""Run a fuzzing campaign in a process of its own and read what libFuzzer says of it."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
LONGEST_INPUT = 8192
SLOWEST_S = 20
MEMORY_MB = 2048


@dataclass(frozen=True)
class Outcome:
    """What came of it: executions, edges reached, and libFuzzer's words when something was found."""

    executions: int
    edges: int
    finding: str


def fuzz(name: str, corpus: Path, seconds: int, artifacts: Path, module: str = "tests.fuzz.run") -> Outcome:
    """Fuzz a target for some seconds; inputs that broke something are kept in `artifacts`."""
    artifacts.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [
            sys.executable, "-m", module, name, str(corpus), f"-max_total_time={seconds}", f"-max_len={LONGEST_INPUT}",
            f"-timeout={SLOWEST_S}", f"-rss_limit_mb={MEMORY_MB}", f"-artifact_prefix={artifacts}/{name}-", "-print_final_stats=1",
        ],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False, timeout=seconds + 120,
    )  # fmt: skip
    text = done.stdout.decode(errors="replace")
    executions = re.search(r"stat::number_of_executed_units: (\d+)", text)
    edges = re.findall(r"cov: (\d+)", text)
    return Outcome(
        int(executions[1]) if executions else 0,
        int(edges[-1]) if edges else 0,
        "" if done.returncode == 0 else text[-6000:],
    )
