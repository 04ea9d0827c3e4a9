"""What dpkg is told of the agent's package, its scripts, and its unit."""

import re
import shutil
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import pytest

from vmhost.errors import HostError
from vmhost.image.agent_deb import build_agent_deb, control, version_of
from vmhost.image.recipe import Recipe
from vmhost.image.tree import copy_tree
from vmhost.lab.setup import PROJECT

AGENT = PROJECT / "appliance-image" / "agent-deb"


def test_control_names_what_it_depends_on() -> None:
    text = control(Recipe.load(AGENT), "1.2.3", 2049)
    fields = dict(line.split(": ", 1) for line in text.splitlines() if not line.startswith(" "))
    assert fields["Package"] == "quotegate-agent"
    assert fields["Version"] == "1.2.3"
    assert fields["Installed-Size"] == "3"
    # the wheels are compiled for one Python
    assert fields["Depends"].startswith("python3 (>= 3.11~), python3 (<< 3.12~), ")
    assert "libtss2-tcti-device0" in fields["Depends"]


def test_the_version_is_the_products() -> None:
    assert version_of(PROJECT)[0].isdigit()


def test_rejects_source_without_version(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(HostError) as raised:
        version_of(tmp_path)
    assert raised.value.code == "no-version"


@pytest.mark.parametrize("recipe", ["agent-deb", "guest"])
def test_the_agent_finds_all_that_it_imports(tmp_path: Path, recipe: str) -> None:
    one = Recipe.load(PROJECT / "appliance-image" / recipe)
    for name in one.code:
        copy_tree(PROJECT / name, tmp_path / name, one.left_out)
    modules = [
        path.relative_to(tmp_path).with_suffix("") for path in (tmp_path / "gateway/agent").glob("*.py")
    ]
    imports = ", ".join(str(path).replace("/", ".").removesuffix(".__init__") for path in modules)
    assert "gateway.agent.connect" in imports
    wheels = sysconfig.get_path("purelib")
    script = f"import sys; sys.path[:0] = {[str(tmp_path), wheels]!r}; import {imports}, authn.tpm_worker, filters.memory"
    # Debian's own Python: the environment's has the sources in its path
    done = subprocess.run(
        [Path(sys.executable).resolve(), "-I", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


TOOLS = ("sh", "rm", "cat", "grep", "sed")


@dataclass(frozen=True)
class Machine:
    """A directory that the package's scripts take for the machine; what they call is noted in `log`, and not done."""

    root: Path

    @classmethod
    def made(cls, root: Path, **tools: str) -> "Machine":
        """Have these tools besides the usual ones; each is a line of shell."""
        (root / "bin").mkdir()
        for name in TOOLS:
            (root / "bin" / name).symlink_to(str(shutil.which(name)))
        machine = cls(root)
        for name, line in {"getent": "exit 0", "chown": "exit 0", **tools}.items():
            path = root / "bin" / name
            path.write_text(f'#!/bin/sh\necho "{name} $*" >>{root}/log\n{line}\n')
            path.chmod(0o755)
        (root / "run/systemd/system").mkdir(parents=True)
        return machine

    def run(self, script: Path, *words: str) -> "subprocess.CompletedProcess[str]":
        text = re.sub(
            r"(?<![\w/.])/(?!dev/null)(run|etc|dev|sys|var)/", rf"{self.root}/\1/", script.read_text()
        )
        (self.root / script.name).write_text(text)
        argv = [str(self.root / "bin/sh"), str(self.root / script.name), *words]
        path = {"PATH": str(self.root / "bin")}
        return subprocess.run(argv, capture_output=True, text=True, check=False, env=path)

    @property
    def log(self) -> list[str]:
        found = self.root / "log"
        return found.read_text().replace(str(self.root), "").splitlines() if found.exists() else []


GRANT = AGENT / "files/usr/lib/quotegate-agent/grant"


@pytest.mark.parametrize("failing", ["try-restart", "daemon-reload"])
def test_an_agent_that_does_not_start_leaves_no_half_installed_package(tmp_path: Path, failing: str) -> None:
    machine = Machine.made(tmp_path, systemctl=f'[ "$1" != {failing} ]')
    done = machine.run(AGENT / "debian/postinst", "configure", "0.1.0")
    assert done.returncode == 0
    assert "systemctl try-restart quotegate-agent.service" in machine.log
    assert ("it does not start anew" in done.stderr) is (failing == "try-restart")


@pytest.mark.parametrize("adduser", [True, False], ids=["deluser", "no-deluser"])
def test_purging_needs_no_other_package_and_takes_back_what_grant_gave(tmp_path: Path, adduser: bool) -> None:
    owner = 'case "$*" in *another*) echo root ;; *) echo quotegate-agent ;; esac'
    tools = {"systemctl": "exit 1", "stat": owner, **({"deluser": "exit 0"} if adduser else {})}
    machine = Machine.made(tmp_path, **tools)
    given = ["dev/tpmrm0", "dev/virtio-ports/line", "sys/kernel/security/ima/binary_runtime_measurements"]
    for name in (*given, "dev/virtio-ports/another", "etc/quotegate-agent/setup.json"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    done = machine.run(AGENT / "debian/postrm", "purge")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "etc/quotegate-agent").exists()
    assert [f"chown root /{name}" in machine.log for name in given] == [True, True, True]
    assert "chown root /dev/virtio-ports/another" not in machine.log
    assert ("deluser --system --quiet quotegate-agent" in machine.log) is adduser
    assert ("its user stays: expected deluser" in done.stderr) is not adduser


def granted(root: Path, setup: str) -> tuple[int, str, list[str]]:
    """Run grant on a machine with a TPM, both logs and a line to the host, which are all the null device here."""
    for name in ("dev/tpmrm0", "dev/virtio-ports/quotegate"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to("/dev/null")
    (root / "sys/kernel/security/tpm0").mkdir(parents=True)
    (root / "sys/kernel/security/tpm0/binary_bios_measurements").touch()
    (root / "etc/quotegate-agent").mkdir(parents=True)
    (root / "etc/quotegate-agent/setup.json").write_text(setup.replace("/dev", f"{root}/dev"))
    machine = Machine.made(root, systemctl="exit 3")
    done = machine.run(GRANT)
    return done.returncode, done.stderr.replace(str(root), ""), machine.log


@pytest.mark.parametrize("setup", ["{}", '{\n  "host_line": null,\n  "ima_list": null\n}'])
def test_without_a_line_in_the_setup_none_is_given(tmp_path: Path, setup: str) -> None:
    code, told, log = granted(tmp_path, setup)
    assert (code, told) == (0, "")
    assert not [one for one in log if "virtio-ports" in one]


def test_the_line_that_the_setup_names_is_given(tmp_path: Path) -> None:
    code, told, log = granted(tmp_path, '{"tpm": "x", "host_line": "/dev/virtio-ports/quotegate", "a": "b"}')
    assert (code, told) == (0, "")
    assert "chown quotegate-agent /dev/virtio-ports/quotegate" in log
    unit = (AGENT / "files/lib/systemd/system/quotegate-agent.service").read_text()
    assert "DeviceAllow=char-virtio-portsdev rw\n" in unit


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("/dev/virtio-ports/other", "is missing: expected a virtio serial port of that name"),
        ("/etc/shadow", "expected a virtio serial port, /dev/virtio-ports/NAME"),
    ],
)
def test_rejects_line_that_is_no_serial_port(tmp_path: Path, line: str, expected: str) -> None:
    code, told, log = granted(tmp_path, f'{{"host_line": "{line}"}}')
    assert (code, expected in told) == (1, True)
    assert not [one for one in log if line in one]


def test_rejects_a_place_where_nothing_can_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="Not a directory; mend that") as raised:
        build_agent_deb(PROJECT, tmp_path / "file" / "out")
    assert raised.value.code == "build-failed"
