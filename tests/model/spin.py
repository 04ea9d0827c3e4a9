"""Check a Promela model with Spin: which of its properties hold, which are violated."""

import re
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
HANDSHAKE, BEACONS, LEASES = "handshake", "beacons", "leases"
MODELS = (HANDSHAKE, BEACONS, LEASES)

# what goes wrong without each rule: (model, its switch) -> a property that no longer holds
COUNTEREXAMPLES = {
    (HANDSHAKE, "EARLY_DATA_G"): "no_early_data",
    (HANDSHAKE, "EARLY_DATA_P"): "no_early_data",
    (HANDSHAKE, "NO_AK_PIN"): "agreement_gateway",
    (HANDSHAKE, "NO_EXPORTER"): "bound_to_session",
    (HANDSHAKE, "NO_FRESHNESS"): "injective_gateway",
    (HANDSHAKE, "NO_GATEWAY_ID"): "agreement_gateway",
    (HANDSHAKE, "NO_GATEWAY_NONCE"): "injective_peer",
    (HANDSHAKE, "NO_GATEWAY_QUOTE"): "agreement_peer",
    (HANDSHAKE, "NO_LABELS"): "one_purpose",
    (HANDSHAKE, "NO_NONCE"): "fresh_proof",
    (HANDSHAKE, "NO_PEER_NONCE"): "agreement_gateway",
    (HANDSHAKE, "NO_PEER_QUOTE"): "agreement_gateway",
    (HANDSHAKE, "NO_PLACE"): "right_place",
    (HANDSHAKE, "NO_ROLES"): "no_reflection",
    (HANDSHAKE, "NO_SHARES"): "secrecy",
    (HANDSHAKE, "QUOTE_OVER_NONCE_ONLY"): "secrecy",
    (BEACONS, "ANY_BEACON"): "bounded",
    (BEACONS, "EXPIRY_FROM_RECEIPT"): "bounded",
    (BEACONS, "NOT_STICKY"): "cut_at_once",
    (BEACONS, "NO_EXPLICIT_CUT"): "cut_at_once",
    (BEACONS, "NO_TIMEOUT"): "dead_gateway",
    (LEASES, "ANY_NONCE"): "fresh_grant",
    (LEASES, "AUTHORITY_ONLY_AT_GRANT"): "authorised",
    (LEASES, "MARK_IS_ENOUGH"): "own_lease",
    (LEASES, "ONLY_THE_SOURCE"): "both_trusted",
    (LEASES, "ONLY_THE_SOURCE_PROVES"): "fresh_grant",
    (LEASES, "REUSED_IDS"): "own_lease",
    (LEASES, "TRUSTED_IS_ENOUGH"): "fresh_grant",
}
LONGEST_S = 300
_COMPILER = ("gcc", "-O1", "-w", "-DSAFETY", "-DNOFAIR", "-DMEMLIM=4000", "-o", "pan", "pan.c")


class SpinError(Exception):
    """Spin is not here, or could not check what it was given."""


def read(model: str) -> str:
    """Return a model's text."""
    return (HERE / f"{model}.pml").read_text()


def list_properties(model: str) -> list[str]:
    """Return what the model claims."""
    return [name for name in re.findall(r"^ltl (\w+)", read(model), re.M) if not name.startswith("never_")]


def list_witnesses(model: str) -> list[str]:
    """Return the claims that have to fail: each failure is a run in which the model does its work."""
    return re.findall(r"^ltl (never_\w+)", read(model), re.M)


def list_switches(model: str) -> list[str]:
    """Return the rules that can be removed."""
    return sorted(set(re.findall(r"^#ifn?def (\w+)", read(model), re.M)))


def check(model: str, claims: list[str], switch: str | None = None) -> dict[str, bool]:
    """Search all states for each claim; True: it holds. Raises SpinError when a search was not exhaustive."""
    if not shutil.which("spin"):
        raise SpinError("spin is not installed: apt-get install spin")
    with tempfile.TemporaryDirectory(prefix="qg-spin-") as folder:
        there = Path(folder)
        (there / "model.pml").write_text(read(model))
        _run(there, "spin", *([f"-D{switch}"] if switch else []), "-a", "model.pml")
        _run(there, *_COMPILER)
        return {claim: _search(there, claim) for claim in claims}


def _search(folder: Path, claim: str) -> bool:
    report = _run(folder, "./pan", "-n", "-m500000", "-N", claim)
    found = re.search(r"errors: (\d+)", report)
    if found is None:
        raise SpinError(f"{claim}: no result in Spin's report:\n{report}")
    if found[1] == "0" and re.search("max search depth too small|out of memory|aborting", report):
        raise SpinError(f"{claim}: the search was not exhaustive:\n{report}")
    return found[1] == "0"


def _run(folder: Path, *argv: str) -> str:
    done = subprocess.run(
        argv,
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=LONGEST_S,
    )
    if done.returncode and argv[0] != "./pan":
        raise SpinError(f"{' '.join(argv)} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout
