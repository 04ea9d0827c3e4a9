"""Real servers and clients in the peers of a lab, every connection between them inspected."""

import hashlib
import random
import shutil
import string
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.lab.conftest import RunningLab
from vmhost.monitor.client import ask

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/postgresql/15/bin"
PYTHON = "/usr/bin/python3"  # Debian's: it has requests, websockets and aiosmtpd
STRICT = {
    "http": 8120,
    "tls": 8121,
    "smtp": 8122,
    "dns": 8123,
    "ssh": 8124,
}  # these rules demand the protocol
WHOLE_ONLY, RANGES_TOO, NO_OBJECTS = range(8001, 8099), 8100, 8110
_ALL = 'detectors = ["secrets", "personal", "malware"]'


def _rule(name: str, service: str, inspect: str) -> str:
    return (
        f'\n[[rule]]\nid = "{name}"\nfrom = "any"\nto = "any"\nservice = "{service}"\naction = "allow"\n'
        f'open = "on-demand"\nlease = "10m"\ninspect = {{ {inspect} }}\n'
    )


RULES = (
    _rule("ordinary", f"tcp/{WHOLE_ONLY[0]}-{WHOLE_ONLY[-1]}", _ALL)
    + _rule("resumed", f"tcp/{RANGES_TOO}", _ALL + ', partial_objects = "pass"')
    + _rule("large", f"tcp/{NO_OBJECTS}", 'detectors = ["secrets", "personal"]')
    + "".join(
        _rule(f"only-{name}", f"tcp/{port}", f'{_ALL}, protocol = "{name}"') for name, port in STRICT.items()
    )
)

VERSIONS: Mapping[str, Sequence[str]] = {
    "aiohttp": (".venv/bin/python", "-c", "import aiohttp; print('aiohttp', aiohttp.__version__)"),
    "aiosmtpd": (PYTHON, "-c", "import aiosmtpd; print('aiosmtpd', aiosmtpd.__version__)"),
    "apt-get": ("apt-get", "--version"),
    "chromium-headless-shell": ("chromium-headless-shell", "--no-sandbox", "--version"),
    "curl": ("curl", "--version"),
    "dig": ("dig", "-v"),
    "dnsmasq": ("dnsmasq", "--version"),
    "dpkg-deb": ("dpkg-deb", "--version"),
    "fcgiwrap": ("dpkg-query", "-W", "-f=fcgiwrap ${Version}", "fcgiwrap"),
    "git": ("git", "--version"),
    "nc": ("dpkg-query", "-W", "-f=netcat-openbsd ${Version}", "netcat-openbsd"),
    "nginx": ("nginx", "-v"),
    "openssl": ("openssl", "version"),
    "postgres": ("postgres", "--version"),
    "psql": ("psql", "--version"),
    "python": (PYTHON, "--version"),
    "redis-cli": ("redis-cli", "--version"),
    "redis-server": ("redis-server", "--version"),
    "requests": (PYTHON, "-c", "import requests; print('requests', requests.__version__)"),
    "rsync": ("rsync", "--version"),
    "scp": ("dpkg-query", "-W", "-f=openssh-client ${Version}", "openssh-client"),
    "smtpd": ("dpkg-query", "-W", "-f=opensmtpd ${Version}", "opensmtpd"),
    "socat": ("socat", "-V"),
    "sshd": ("dpkg-query", "-W", "-f=openssh-server ${Version}", "openssh-server"),
    "swaks": ("swaks", "--version"),
    "websockets": (PYTHON, "-c", "import websockets; print('websockets', websockets.__version__)"),
    "wget": ("wget", "--version"),
}


def version(name: str) -> str | None:
    """The first line a program says about itself, or None where it is not installed."""
    argv = VERSIONS[name]
    if not shutil.which(argv[0], path=PATH) and not Path(argv[0]).exists():
        return None
    done = subprocess.run(argv, capture_output=True, text=True, env={"PATH": PATH}, timeout=20, check=False)
    lines = [one for one in (done.stdout + done.stderr).splitlines() if any(map(str.isdigit, one))]
    return lines[0].strip() if done.returncode == 0 and lines else None


def need(*names: str) -> None:
    """Skip, aloud, where a program is missing."""
    if missing := [name for name in names if version(name) is None]:
        pytest.skip(f"{', '.join(missing)} not installed: run `make setup` as root; see scripts/setup")


def token() -> bytes:
    return b"ghp_" + "".join(random.choices(string.ascii_letters + string.digits, k=36)).encode()


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digests(folder: Path) -> dict[str, str]:
    """The hash of each file below a folder."""
    return {
        str(one.relative_to(folder)): digest(one.read_bytes()) for one in folder.rglob("*") if one.is_file()
    }


@dataclass
class World:
    """A lab, a folder that unprivileged servers can read, and what was started in it."""

    lab: RunningLab
    folder: Path
    _servers: list["subprocess.Popen[bytes]"] = field(default_factory=list)
    _ports: "count[int]" = field(default_factory=lambda: count(WHOLE_ONLY[0]))

    def ip(self, peer: str = "db") -> str:
        return str(self.lab.spec.machine(peer).ip)

    def port(self) -> int:
        """A port nobody uses yet, below the rule with every detector."""
        port = next(self._ports)
        assert port in WHOLE_ONLY
        return port

    def room(self, name: str) -> Path:
        """A new folder."""
        path = self.folder / name
        path.mkdir()
        path.chmod(0o777)
        return path

    def _argv(self, peer: str, argv: Sequence[object], user: str | None) -> list[str]:
        drop = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
        return [
            "nsenter", f"--net=/run/netns/{self.lab.lab.peer_namespace(peer)}", "--", *drop, *map(str, argv)
        ]  # fmt: skip

    def serve(
        self, argv: Sequence[object], port: int | Path, *, peer: str = "db", user: str | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> "subprocess.Popen[bytes]":  # fmt: skip
        """Start a server, and wait until it listens on the port or socket."""
        log = (self.folder / f"server-{len(self._servers)}.log").open("w+b")
        process = subprocess.Popen(
            self._argv(peer, argv, user), stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self.folder,
            env={"PATH": PATH, "HOME": str(self.folder), "LC_ALL": "C.UTF-8", **(environment or {})},
            start_new_session=True,
        )  # fmt: skip
        self._servers.append(process)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and process.poll() is None:
            if port.is_socket() if isinstance(port, Path) else _listens(process.pid, port):
                return process
            time.sleep(0.02)
        raise AssertionError(f"{argv[0]} does not listen: {Path(log.name).read_text()[-2000:]}")

    def run(
        self, argv: Sequence[object], *, peer: str = "web", data: bytes = b"", status: int | None = 0,
        user: str | None = None, environment: Mapping[str, str] | None = None, within_s: float = 40.0,
    ) -> "subprocess.CompletedProcess[bytes]":  # fmt: skip
        """Run a client to its end; `status` None: it may fail."""
        done = subprocess.run(
            self._argv(peer, argv, user), input=data, capture_output=True, cwd=self.folder, check=False,
            env={"PATH": PATH, "HOME": str(self.folder), "LC_ALL": "C.UTF-8", **(environment or {})},
            timeout=within_s,
        )  # fmt: skip
        said = f"{argv[0]}: {done.returncode}: {done.stdout[-500:]!r} {done.stderr[-1500:].decode(errors='replace')}"
        assert status is None or done.returncode == status, f"{said}\n{self.found()}"
        return done

    def found(self, since: int = 0) -> list[str]:
        """What the inspectors found since then, with the reason why."""
        events = self.lab.events(since, "content-found")
        return [f"{one['unmapped']['check']}: {one['message']}" for one in events]

    def checks(self, since: int) -> set[str]:
        """The checks that found something; at least one has to."""
        self.lab.until(lambda: self.lab.events(since, "content-found"), 5)
        return {one["unmapped"]["check"] for one in self.lab.events(since, "content-found")}

    def stopped(
        self, argv: Sequence[object], *, status: int | None = None, data: bytes = b"", **more: Any
    ) -> set[str]:
        """Run a client that has to be stopped; return the checks that found it."""
        since = self.lab.last_sequence()
        self.run(argv, status=status, data=data, **more)
        return self.checks(since)

    def inspector(self) -> int:
        return int(ask(self.lab.lab, "status")["gateway"]["pids"]["inspector"])

    def close(self) -> None:
        for one in self._servers:
            one.terminate()
        for one in self._servers:
            try:
                one.wait(5)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait(5)


def _listens(pid: int, port: int) -> bool:
    for name in ("tcp", "tcp6"):
        lines = Path(f"/proc/{pid}/net/{name}").read_text().splitlines()[1:]
        if any(one.split()[1].endswith(f":{port:04X}") and one.split()[3] == "0A" for one in lines):
            return True
    return False
