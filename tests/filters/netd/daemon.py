"""netd as a process of its own, as it runs in the gateway: uid 64101, CAP_NET_ADMIN, nothing else.

The code is copied to a directory that uid may read, wherever the tests themselves lie.
"""

import asyncio
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import nftables

import filters
from filters.errors import NetdError
from filters.netd.client import NetdClient
from filters.netd.protocol import Event
from filters.netd.state import boottime
from filters.policy.compiled import CompiledPolicy
from tests.filters.ruleset import policies
from tests.filters.ruleset.network import A, B, Network

UID = 64101
READY = 10.0
T = TypeVar("T")
E = TypeVar("E")


def install_code(directory: Path) -> None:
    """Copy what netd imports: `filters` and the nftables binding."""
    for module in (filters, nftables):
        source = Path(module.__file__).resolve().parent
        target = directory / source.name
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    subprocess.run(["chmod", "-R", "a+rX", str(directory)], check=True)


class Daemon:
    """One netd in the gateway's namespace of a test network."""

    def __init__(self, network: Network, code: Path, client_uid: int = 0) -> None:
        self.network = network
        self.directory = Path(tempfile.mkdtemp(prefix="qg-t-netd-"))
        self.directory.chmod(0o755)
        shutil.chown(self.directory, UID, UID)
        self.socket = self.directory / "netd.sock"
        self.log = self.directory / "log"
        self._code, self._client_uid = code, client_uid
        self.process = self._start()

    def _start(self) -> subprocess.Popen[bytes]:
        admin = "-all,+net_admin"
        rights = ["--bounding-set", admin, "--inh-caps", admin, "--ambient-caps", admin, "--no-new-privs"]
        argv = ["nsenter", f"--net=/run/netns/{self.network.gateway.name}", "--"]
        argv += ["setpriv", "--reuid", str(UID), "--regid", str(UID), "--clear-groups", *rights, "--"]
        argv += [sys._base_executable, "-m", "filters.netd.main", "--socket", str(self.socket)]
        argv += ["--client-uid", str(self._client_uid), "--interface", "eth0"]
        environment = {"PYTHONPATH": str(self._code), "PYTHONDONTWRITEBYTECODE": "1", "PATH": "/usr/bin:/bin"}
        with self.log.open("wb") as log:
            return subprocess.Popen(argv, cwd="/", env=environment, stdout=log, stderr=log)

    def wait_ready(self) -> None:
        deadline = time.monotonic() + READY
        while not self.socket.exists() or self.socket.stat().st_mode & 0o777 != 0o666:
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"netd did not start: {self.log.read_text()}")
            time.sleep(0.01)

    def status(self) -> dict[str, str]:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return dict(line.split(":\t", 1) for line in text.splitlines())

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=READY)

    def close(self) -> None:
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(self.directory)


class Client:
    """NetdClient for tests without a loop of their own: every call waits for its answer."""

    def __init__(self, path: Path) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        try:
            self.netd = self.call(NetdClient.connect(path))
        except BaseException:
            self._stop()
            raise

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout=30)

    def timed(self, work: Coroutine[Any, Any, T]) -> float:
        start = time.monotonic()
        self.call(work)
        return time.monotonic() - start

    def code(self, work: Coroutine[Any, Any, T]) -> str:
        """Return the code of the refusal."""
        try:
            self.call(work)
        except NetdError as error:
            return error.code
        raise AssertionError("netd did not refuse")

    def event(self, kind: type[E], timeout: float = 2.0) -> E:
        """Wait for the next event of a kind; others are passed over."""

        async def wait() -> E:
            async with asyncio.timeout(timeout):
                while True:
                    event: Event = await self.netd.events.get()
                    if isinstance(event, kind):
                        return event

        return self.call(wait())

    def events(self) -> list[Event]:
        """Take every event that has come so far."""
        found = []
        with contextlib.suppress(asyncio.QueueEmpty):
            while True:
                found.append(self.netd.events.get_nowait())
        return found

    def close(self) -> None:
        if self.loop.is_running():
            self.call(self.netd.close())
            self._stop()

    def _stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    # ---- the usual state ----

    def set_up(self, policy: CompiledPolicy) -> None:
        """Load a policy, trust both guests and allow communication for a while."""
        self.call(self.netd.load_policy(policy))
        until = boottime() + 30
        for number in (A, B):
            self.call(self.netd.trust(policies.address(number), until))
        self.call(self.netd.authority(until))


def eventually(condition: Callable[[], bool], timeout: float = 2.0) -> bool:
    """Wait for something that takes a moment."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
