"""Run the tools that builds are made of."""

import os
import subprocess

from vmhost.errors import HostError

WITHIN_S = 600


def run_tool(argv: list[str], **environment: str) -> str:
    """Run a tool and return what it printed; raises HostError `no-tool`, `build-failed`."""
    try:
        done = subprocess.run(
            argv,
            capture_output=True,
            text=True,
            errors="replace",  # a disk that somebody spoilt has any name for a file
            check=False,
            timeout=WITHIN_S,
            env={**os.environ, **environment},
        )
    except FileNotFoundError as error:
        raise HostError(
            "no-tool", f"{argv[0]} is not installed; scripts/setup-images installs what builds need"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise HostError("build-failed", f"{argv[0]} did not end within {WITHIN_S} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip()[-800:]
        raise HostError("build-failed", f"{argv[0]} ended with {done.returncode}: {said}")
    return done.stdout
