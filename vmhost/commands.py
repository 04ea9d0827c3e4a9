"""Run the host's tools and turn their failures into errors that say what was run."""

import subprocess
from collections.abc import Sequence

from vmhost.errors import HostError


def run(argv: Sequence[str], *, text: str = "", check: bool = True) -> str:
    """Run a tool with `text` on its standard input and return its output; raises HostError."""
    try:
        done = subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise HostError("tool-failed", f"{argv[0]}: {error}") from error
    if check and done.returncode:
        raise HostError(
            "tool-failed", f"{' '.join(argv)} failed: {done.stderr.strip() or done.stdout.strip()}"
        )
    return done.stdout


def in_namespace(namespace: str, argv: Sequence[str]) -> list[str]:
    """Return the command that runs `argv` in a network namespace."""
    return ["nsenter", f"--net=/run/netns/{namespace}", "--", *argv]
