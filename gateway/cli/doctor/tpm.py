"""TPMs: whether a software TPM works here, and what the gateway says of its own and of its peers'."""

import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from authn.errors import AuthnError
from authn.pcr import PcrSelection
from gateway.cli.doctor.finding import Finding, bad, ok, skipped, warn
from vmhost.process import listens

ANSWERS_WITHIN_S = 5.0
WELL = ("trusted", "attesting", "restarting")


def judge_trial(error: str | None) -> Finding:
    """Judge the trial of a throw-away TPM; None: there was none to try."""
    if error is None:
        return skipped("software TPM", "swtpm is not installed", "apt-get install swtpm swtpm-tools")
    if error:
        return bad(
            "software TPM",
            f"one that was started on trial failed: {error}",
            "reinstall swtpm, libtpms and tpm2-tss",
        )
    return ok("software TPM", "one that was started on trial made its keys and quoted a SHA-256 PCR")


def judge_gateway(healthy: str | None, way_up: str) -> Finding:
    """Judge the gateway's own answer: empty when netd and tpmd answer it; None without a gateway.

    `way_up` is the command that starts it.
    """
    if healthy is None:
        return skipped(
            "gateway",
            "no gateway answers; all that follows from its answers is not checked",
            f"{way_up}, or look at its log",
        )
    if healthy:
        return bad("gateway", healthy, "look at the logs of netd and tpmd")
    return ok("gateway", "it answers, and so do its packet filter and its TPM")


def judge_peer(peer: dict[str, Any], of: str = "") -> Finding:
    """Judge one peer of the gateway's list; `of` is what names its lab to a command."""
    name, state = f"TPM of {peer['name']}", str(peer["state"])
    if state in WELL:
        return ok(name, f"{state}, reset count {peer.get('reset_count')}")
    reason = f" ({peer['reason']})" if peer.get("reason") else ""
    if state == "unknown":
        return warn(
            name,
            "it has not enrolled yet",
            f"start its agent, then: quotegate peer approve {peer['name']}{of}",
        )
    mend = (
        f"quotegate peer release {peer['name']}{of}"
        if state == "quarantined"
        else f"quotegate explain {peer['name']} …{of} says more; docs/reasons.md has the reason"
    )
    return bad(name, f"{state}{reason}", mend)


def try_software_tpm() -> str:
    """Start a TPM in a directory that goes again, and use it; return what went wrong, empty when nothing."""
    from authn.tpm import Tpm

    with tempfile.TemporaryDirectory(prefix="qg-doctor-") as folder:
        socket = Path(folder) / "tpm.sock"
        argv = [
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={folder}", "--flags", "not-need-init,startup-clear",
            "--server", f"type=unixio,path={socket}", "--ctrl", f"type=unixio,path={socket}.ctrl",
        ]  # fmt: skip
        process = subprocess.Popen(argv, stderr=subprocess.PIPE)
        try:
            for one in (socket, Path(f"{socket}.ctrl")):
                _wait_for(one, process)
            with Tpm(f"swtpm:path={socket}") as tpm:
                tpm.provision()
                tpm.quote(PcrSelection.of([4]), bytes(32))
        except (AuthnError, OSError) as error:
            return str(error)
        finally:
            process.kill()
            process.communicate()
    return ""


def _wait_for(path: Path, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + ANSWERS_WITHIN_S
    while not listens(path, process.pid):  # its file is there before it does
        if process.poll() is not None or time.monotonic() > deadline:
            raise OSError(f"swtpm does not come up (exit status {process.poll()})")
        time.sleep(0.02)
