"""A machine that no lab knows joins a running one with what `quotegate guest issue` wrote.

It is a namespace with a TPM that measures what the image's prediction says; a real boot is in `tests/vm/test_own_guest.py`.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from authn.tpm import Tpm
from tests.authn.ima_lists import entry
from tests.authn.ima_lists import measure as measure_files
from tests.lab.conftest import RunningLab, lab
from tests.lab.joining import cli, join, vouch
from tests.tpms import running_swtpm
from tests.vmhost.image.programs import small_uki
from vmhost.commands import in_namespace, run
from vmhost.image.predict import predict
from vmhost.lab.setup import PROJECT
from vmhost.measured_boot import Measurement, measure

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]
assert lab  # the fixture
NAME, IP, PORT = "mine", "10.77.0.9", "qgown0"
PROGRAM = b"\x7fELF, more or less"


@dataclass
class Outsider:
    """A namespace at the host's bridge, with what a machine of its kind measured at boot."""

    room: Path
    namespace: str
    tcti: str

    def boot(self, uki: Path) -> str:
        """Measure what the firmware, the stub and the kernel would; return the endorsement key."""
        events = predict(uki.read_bytes())
        found = [
            Measurement(pcr, one.description, one.digest) for pcr, all_ in events.items() for one in all_
        ]
        with Tpm(self.tcti) as tpm:
            ek = tpm.provision().ek_public.hex()
            (self.room / "event_log").write_bytes(measure(tpm, found))
            self.run_program("boot_aggregate", b"the boot PCRs", tpm)
            self.run_program("/usr/bin/program", PROGRAM, tpm)
        return ek

    def run_program(self, path: str, content: bytes, tpm: Tpm) -> None:
        """Have IMA measure a file."""
        with (self.room / "ima_list").open("ab") as file:
            file.write(measure_files(tpm, entry(path, content)))

    def install(self, issued: Path) -> Path:
        """Put the guest's files where this machine has its settings."""
        shutil.copytree(issued / "guest", settings := self.room / "settings")
        (self.room / "state").mkdir()
        setup = json.loads(
            (settings / "setup.json").read_text().replace("/etc/quotegate-agent", str(settings))
        )
        places = {
            "tpm": self.tcti, "event_log": "event_log", "ima_list": "ima_list", "state_dir": "state",
            "control_socket": "agent.sock",
        }  # fmt: skip
        setup |= {name: value if name == "tpm" else str(self.room / value) for name, value in places.items()}
        (settings / "setup.json").write_text(json.dumps(setup))
        return settings / "setup.json"

    def start(self, *words: object) -> "subprocess.Popen[bytes]":
        argv = [sys.executable, "-m", "gateway.agent.main", "--socket", str(self.room / "agent.sock")]
        return subprocess.Popen(
            in_namespace(self.namespace, [*argv, *map(str, words)]),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=PROJECT,
        )  # fmt: skip


@pytest.fixture
def outsider(lab: RunningLab, tmp_path: Path) -> Iterator[Outsider]:
    namespace, host = f"qg-own{os.getpid()}", lab.lab.host_namespace
    run(["ip", "netns", "add", namespace])
    try:
        made = f"link add name {PORT} type veth peer name eth0 address 52:54:0a:4d:00:09 netns {namespace}"
        run(["ip", "-n", host, "-batch", "-"], text=f"{made}\n")
        text = f"link set lo up\naddr add {IP}/24 dev eth0\nlink set eth0 up\nroute add default via {lab.spec.gateway.ip}\n"
        run(["ip", "-n", namespace, "-batch", "-"], text=text)
        with running_swtpm(tmp_path / "tpm") as tcti:
            yield Outsider(tmp_path, namespace, tcti)
    finally:
        run(["ip", "netns", "delete", namespace])


def test_joins_with_what_was_issued_talks_and_is_cut(lab: RunningLab, outsider: Outsider) -> None:
    uki, root = outsider.room / "mine.efi", outsider.room / "root/usr/bin"
    uki.write_bytes(small_uki())
    root.mkdir(parents=True)
    (root / "program").write_bytes(PROGRAM)
    authority, references = vouch(NAME, uki, outsider.room / "root", outsider.room)
    (ek := outsider.room / "ek.hex").write_text(outsider.boot(uki))
    issued = outsider.room / "issued"
    said = cli(
        "guest", "issue", NAME, "--lab", lab.lab.name, "--ip", IP, "--port", PORT, "--image", NAME,
        "--references", references, "--ek", ek, "--authority", authority, "--out", issued, "--json",
    )  # fmt: skip
    lab.cli("authority", "grant", "--for", "1h")
    join(lab, issued, NAME, json.loads(said)["ek"])
    echo, agent = (
        lab.start("db", "tests.foreign.echo", 5432),
        outsider.start("run", "--setup", outsider.install(issued)),
    )
    try:
        assert echo.stdout is not None
        echo.stdout.readline()
        lab.until(lambda: lab.peer(NAME)["state"] == "trusted")
        answer, told = outsider.start("connect", "db", "tcp/5432").communicate(b"hello\n", timeout=30)
        assert (answer, told) == (b"hello\n", b"delivered: sent 6 bytes, 6 acknowledged, 6 confirmed by db\n")
        before = lab.last_sequence()
        agent.kill()
        agent.communicate()
        with Tpm(outsider.tcti) as tpm:
            outsider.run_program("/tmp/foreign", b"something else", tpm)
        agent = outsider.start("run", "--setup", outsider.room / "settings/setup.json")
        lab.until(lambda: (NAME, "unknown-file", False) in lab.failures(before))
        assert lab.peer(NAME)["state"] != "trusted"
    finally:
        for one in (agent, echo):
            one.kill()
            one.communicate()
