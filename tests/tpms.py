"""Start real software TPMs for tests."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vmhost.process import listens


@contextmanager
def running_swtpm(directory: Path) -> Iterator[str]:
    """Run one swtpm on `directory`'s state and yield its TCTI."""
    directory.mkdir(parents=True, exist_ok=True)
    socket = directory / "tpm.sock"
    process = subprocess.Popen(
        [
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={directory}",
            "--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={socket}.ctrl",
            "--flags", "not-need-init,startup-clear",
        ],
        stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not all(listens(one, process.pid) for one in (socket, Path(f"{socket}.ctrl"))):
            assert process.poll() is None, "swtpm ended"
            assert time.monotonic() < deadline, "swtpm does not listen"
            time.sleep(0.02)
        yield f"swtpm:path={socket}"
    finally:
        process.kill()
        process.communicate()
        socket.unlink(missing_ok=True)
        Path(f"{socket}.ctrl").unlink(missing_ok=True)
