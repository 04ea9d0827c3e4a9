"""The agent's Debian package, installed into a fresh Debian made from the machine's own mirrors."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.lab.conftest import RunningLab, lab
from vmhost.commands import in_namespace
from vmhost.errors import HostError
from vmhost.image.agent_deb import build_agent_deb
from vmhost.image.debian import SOURCES
from vmhost.image.recipe import Recipe
from vmhost.image.tool import run_tool
from vmhost.lab.setup import PROJECT
from vmhost.names import AGENT_UID

pytestmark = [pytest.mark.vm, pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(600)]
assert lab  # the fixture
# the lab's TPMs are reached by this library, a machine's own by tcti-device
FOR_THE_LAB = "libtss2-tcti-swtpm0"
# what dpkg and adduser themselves keep: records, backups, a lock
KEPT = re.compile(r"/(var/lib/dpkg|var/log|var/cache|proc|sys|dev|run|tmp)/|/etc/(passwd|group|g?shadow|sub[ug]id)-$|\.pwd\.lock$")  # fmt: skip
LINES = ("etc/passwd", "etc/group", "etc/shadow", "etc/gshadow")


@dataclass(frozen=True, slots=True)
class Debian:
    """A Debian below a directory."""

    root: Path
    package: Path

    def run(self, *argv: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(["chroot", str(self.root), *argv], capture_output=True, text=True, check=False)

    def dpkg(self, *words: str) -> None:
        done = self.run("dpkg", *words)
        assert done.returncode == 0, done.stdout + done.stderr

    def install(self) -> None:
        shutil.copy(self.package, self.root / "tmp" / self.package.name)
        self.dpkg("-i", f"/tmp/{self.package.name}")

    def files(self) -> set[str]:
        paths = (f"/{path.relative_to(self.root)}" for path in self.root.rglob("*"))
        return {path for path in paths if not KEPT.search(path)}

    def accounts(self) -> list[str]:
        return [(self.root / name).read_text() for name in LINES]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_agent_deb(PROJECT, tmp_path_factory.mktemp("package"))


@pytest.fixture(scope="module")
def debian(package: Path) -> Iterator[Debian]:
    recipe = Recipe.load(PROJECT / "appliance-image" / "agent-deb")
    needed = sorted({one.partition(" ")[0] for one in recipe.packages} | {FOR_THE_LAB, "util-linux"})
    sources = next((str(one) for one in SOURCES if one.is_file()), "")
    # readable for the agent's uid on the way: pytest's own directories are not
    with tempfile.TemporaryDirectory(dir="/var/tmp", prefix="qg-debian-") as scratch:
        root = Path(scratch, "root")
        Path(scratch).chmod(0o755)
        argv = ["mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", f"--include={','.join(needed)}"]
        try:
            run_tool([*argv, "--skip=cleanup/apt", recipe.suite, str(root), sources])
        except HostError as error:
            pytest.skip(f"no Debian can be made from this machine's mirrors: {error}")
        yield Debian(root, package)


def test_two_builds_give_the_same_bytes(package: Path, tmp_path: Path) -> None:
    assert build_agent_deb(PROJECT, tmp_path).read_bytes() == package.read_bytes()


def test_installs_runs_says_what_is_missing_and_leaves_nothing(debian: Debian) -> None:
    before, accounts = debian.files(), debian.accounts()
    debian.install()
    assert "quotegate-agent connect db tcp/5432" in debian.run("quotegate-agent", "--help").stdout
    assert debian.run("dpkg", "--verify", "quotegate-agent").stdout == ""
    assert debian.run("id", "-u", "quotegate-agent").returncode == 0
    refused = debian.run("/usr/lib/quotegate-agent/grant")
    assert refused.returncode == 1
    assert (
        "/etc/quotegate-agent/setup.json is missing: expected this machine's provisioning" in refused.stderr
    )
    (debian.root / "etc/quotegate-agent/setup.json").write_text('{"peer_id": "mine/web"}')
    refused = debian.run("/usr/lib/quotegate-agent/grant")
    assert (refused.returncode, "expected a TPM 2.0" in refused.stderr) == (1, True)
    refused = debian.run("quotegate-agent", "run", "--setup", "/etc/quotegate-agent/setup.json")
    assert refused.returncode == 1
    assert "quotegate-agent: bad-setup: /etc/quotegate-agent/setup.json: 'reference_keys'" in refused.stderr
    debian.dpkg("-r", "quotegate-agent")
    assert {one for one in debian.files() - before if "quotegate" in one} == {
        "/etc/quotegate-agent",
        "/etc/quotegate-agent/setup.json",
    }
    debian.dpkg("-P", "quotegate-agent")
    assert debian.files() - before == set()
    assert before - debian.files() == set()
    assert debian.accounts() == accounts


def test_the_installed_agent_attests_and_talks(debian: Debian, lab: RunningLab) -> None:
    debian.install()
    lab.cli("authority", "grant", "--for", "1h")
    echo = lab.start("db", "tests.foreign.echo", 5432)
    try:
        assert echo.stdout is not None
        echo.stdout.readline()
        with lab.without_agent("web"):
            agent = inside(lab, debian, "run", "--setup", lab.setup("web"))
            try:
                lab.until(lambda: lab.peer("web")["state"] == "trusted")
                socket = str(lab.lab.agent_socket("web"))
                talk = inside(lab, debian, "--socket", socket, "connect", "db", "tcp/5432")
                said, told = talk.communicate(b"hello\n", timeout=30)
            finally:
                agent.kill()
                agent.communicate()
    finally:
        echo.kill()
        echo.communicate()
        debian.dpkg("-P", "quotegate-agent")
    assert said == b"hello\n"
    assert told.decode() == "delivered: sent 6 bytes, 6 acknowledged, 6 confirmed by db\n"
    assert lab.peer("web")["restarts"] == 0


def inside(lab: RunningLab, debian: Debian, *words: str) -> "subprocess.Popen[bytes]":
    """Run the installed agent in the place of web, with the rights that its unit gives it."""
    binds = [Path("/run/quotegate"), Path("/var/lib/quotegate")]
    targets = [debian.root / one.relative_to("/") for one in binds]
    for target in targets:
        target.mkdir(parents=True, exist_ok=True)
    mounts = " && ".join(f"mount --rbind {one} {target}" for one, target in zip(binds, targets, strict=True))
    rights = "--inh-caps=-all,+net_admin --ambient-caps=-all,+net_admin --bounding-set=-all,+net_admin"
    drop = f"setpriv --reuid={AGENT_UID} --regid={AGENT_UID} --clear-groups --no-new-privs {rights}"
    script = f'{mounts} && exec chroot {debian.root} {drop} quotegate-agent "$@"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", *words]
    return subprocess.Popen(
        in_namespace(lab.lab.peer_namespace("web"), argv),
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
