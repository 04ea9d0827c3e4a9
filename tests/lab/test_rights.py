"""Who may what: every process tries everything with exactly its own rights; only what is its own succeeds."""

import json
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.lab import probe
from tests.lab.conftest import RunningLab
from vmhost.lab.provisioning import LabPaths
from vmhost.monitor.client import ask
from vmhost.names import AGENT_UID, GATEWAY_UID, INSPECTOR_UID, NETD_UID, TPM_UID, TPMD_UID

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]

NOBODY = 65534
PUBLIC = {"read setup", "read code", "read reference values", "read port map"}
STORE = {f"{verb} {what}" for verb in ("read", "write") for what in ("store", "audit")}
# Everything else is refused. `environment of` and `trace` a process itself are tried by a second one with its rights.
MAY: dict[str, set[str]] = {
    "netd": {"nft list", "nft flush"},
    "tpmd": {"open gateway tpm"},
    "quotegated": STORE | {"ask netd", "ask tpmd"},
    # its own guest's packet filter; it can't enter another namespace
    "agent": {"open web tpm", "nft flush"},
    "swtpm": {
        "open gateway tpm", "open gateway tpm raw", "read gateway tpm state", "write gateway tpm state",
        "memory of swtpm", "environment of swtpm", "trace swtpm",
    },
    "swtpm of web": {
        "open web tpm", "read web tpm state", "write web tpm state",
        "memory of swtpm of web", "environment of swtpm of web", "trace swtpm of web",
    },
    "nobody": set(),
}  # fmt: skip
UIDS = {
    "netd": NETD_UID, "tpmd": TPMD_UID, "quotegated": GATEWAY_UID, "agent": AGENT_UID, "inspector": INSPECTOR_UID, "swtpm": TPM_UID,
    "swtpm of web": TPM_UID + 1,
}  # fmt: skip


@dataclass(frozen=True)
class Rights:
    """A process's uid, gid and effective capabilities, as the kernel has them."""

    uid: int
    gid: int
    capabilities: int

    @classmethod
    def of(cls, pid: int) -> "Rights":
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        status = dict(line.split(":\t", 1) for line in lines if ":\t" in line)
        assert status["NoNewPrivs"] == "1"
        assert status["Groups"].strip() == ""
        assert status["CapEff"] == status["CapPrm"] == status["CapBnd"]
        return cls(int(status["Uid"].split()[0]), int(status["Gid"].split()[0]), int(status["CapEff"], 16))

    def drop(self) -> list[str]:
        kept = ",".join(
            ["-all", *(f"+cap_{number}" for number in range(64) if self.capabilities >> number & 1)]
        )
        return [
            "setpriv", f"--reuid={self.uid}", f"--regid={self.gid}", "--clear-groups", "--no-new-privs",
            f"--inh-caps={kept}", f"--ambient-caps={kept}", f"--bounding-set={kept}", "--",
        ]  # fmt: skip


def _swtpm(lab: RunningLab, machine: str) -> int:
    wanted = f"dir={lab.lab.state_dir}/tpm/{machine},"
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        words = entry.read_bytes().decode(errors="replace").split("\0")
        if words[0] == "swtpm" and any(word.startswith(wanted) for word in words):
            return int(entry.parent.name)
    raise AssertionError(f"{machine} has no swtpm")


@pytest.fixture(scope="module")
def pids(lab: RunningLab) -> dict[str, int]:
    status = ask(lab.lab, "status")
    return {
        **status["gateway"]["pids"],
        "agent": status["peers"]["web"]["pids"]["agent-web"],
        "other agent": status["peers"]["db"]["pids"]["agent-db"],
        "swtpm": _swtpm(lab, "gateway"),
        "swtpm of web": _swtpm(lab, "web"),
    }


@pytest.fixture(scope="module")
def wanted(lab: RunningLab, pids: dict[str, int]) -> dict[str, Any]:
    """What is tried, by name."""
    paths, state, run = LabPaths(lab.lab), lab.lab.state_dir, lab.lab.run_dir
    return {
        "paths": {
            "store": str(paths.gateway_state / "state.db"),
            "audit": str(paths.gateway_state / "audit.db"),
            "administrator's key": str(lab.lab.administrator_key),
            "gateway tpm state": str(next((state / "tpm/gateway").glob("*.permall"))),
            "web tpm state": str(next((state / "tpm/web").glob("*.permall"))),
            "setup": str(paths.gateway_setup),
            "reference values": str(paths.shared / "references.json"),
            "port map": str(paths.shared / "portmap.json"),
            "code": str(run / "code/filters/netd/main.py"),
        },
        "sockets": {
            "gateway tpm": str(lab.lab.tpm_socket("gateway")),
            "gateway tpm raw": str(lab.lab.tpm_socket("gateway").with_name("swtpm.ctrl")),
            "web tpm": str(lab.lab.tpm_socket("web")),
        },
        "requests": {
            # its client is told that netd has one already
            "netd": [str(paths.socket("netd", "netd.sock")), {"id": 1, "verb": "ping", "args": {}}],
            "tpmd": [str(paths.socket("tpmd", "tpmd.sock")), {"op": "identity"}],
            "monitor for a gateway's restart": [str(lab.lab.monitor_socket), {"op": "restart_gateway"}],
        },
        "pids": pids,
        "namespace": f"/run/netns/{lab.lab.host_namespace}",
    }


@pytest.fixture(scope="module", params=list(MAY))
def outcome(
    request: pytest.FixtureRequest,
    lab: RunningLab,
    pids: dict[str, int],
    wanted: dict[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[str, dict[str, str]]]:
    """Run the probe with one process's rights, in its namespaces; put the table back if that was flushed."""
    who = request.param
    rights = Rights(NOBODY, NOBODY, 0) if who == "nobody" else Rights.of(pids[who])
    place = ["nsenter", f"--target={pids.get(who, pids['netd'])}", "--net", "--mount", "--"]
    done = subprocess.run(
        [*place, *rights.drop(), "/usr/bin/python3", "-c", Path(probe.__file__).read_text()],
        input=json.dumps(wanted),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    yield who, json.loads(done.stdout)
    lab.until(lab.all_trusted)


def test_only_what_is_its_own_succeeds(outcome: tuple[str, dict[str, str]]) -> None:
    who, answers = outcome
    succeeded = {attempt for attempt, why in answers.items() if not why}
    assert succeeded == MAY[who] | PUBLIC


@pytest.mark.parametrize("who", UIDS)
def test_each_runs_with_its_uid_and_no_capability_but_its_own(pids: dict[str, int], who: str) -> None:
    rights = Rights.of(pids[who])
    assert rights.uid == UIDS[who]
    net_admin = 1 << 12
    assert rights.capabilities == (net_admin if who in ("netd", "agent") else 0)


def test_nobody_disturbed_the_gateway(lab: RunningLab, pids: dict[str, int]) -> None:
    assert ask(lab.lab, "status")["gateway"]["pids"] == {
        name: pids[name] for name in ("netd", "tpmd", "quotegated", "inspector")
    }
