"""Measure what a lab machine is about to run into its TPM, and predict the same from the files alone.

This is the lab's stand-in for firmware: PCR 4 gets the code, 7 the deployment, 9 the command line; 10
stays zero, because nothing else may run. Prediction never looks at a TPM.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from authn.event_log import EV_IPL, LogEvent, build_event_log
from authn.profile import Profile
from authn.reference import ReferenceEvent
from authn.tpm import Tpm

CODE_PCR, DEPLOYMENT_PCR, COMMAND_PCR, RUNTIME_PCR = 4, 7, 9, 10
PACKAGES = ("authn", "filters", "gateway", "hostlink", "vmhost")


@dataclass(frozen=True, slots=True)
class Measurement:
    """One thing measured: into which PCR, what it is, its digest."""

    pcr: int
    description: str
    digest: bytes


def code_digest(root: Path, packages: Iterable[str] = PACKAGES) -> bytes:
    """Hash every Python file of the packages with its path, in order."""
    total = hashlib.sha256()
    for package in packages:
        for path in sorted((root / package).rglob("*.py")):
            total.update(
                str(path.relative_to(root)).encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest()
            )
    return total.digest()


def measurements(root: Path, deployment: str, argv: Sequence[str]) -> tuple[Measurement, ...]:
    """Compute what a boot measures, from the files as they are now."""
    command = "\0".join(argv)
    return (
        Measurement(CODE_PCR, "code of Quotegate", code_digest(root)),
        Measurement(DEPLOYMENT_PCR, f"deployment {deployment}", hashlib.sha256(deployment.encode()).digest()),
        Measurement(COMMAND_PCR, f"command {' '.join(argv)}", hashlib.sha256(command.encode()).digest()),
    )


def measure(tpm: Tpm, found: Sequence[Measurement]) -> bytes:
    """Extend the TPM and return the event log (TCG crypto-agile)."""
    for one in found:
        tpm.extend(one.pcr, one.digest)
    return build_event_log(LogEvent(one.pcr, EV_IPL, one.digest, one.description.encode()) for one in found)


def profile_for(name: str) -> Profile:
    """Return the profile whose reference names `predict` fills."""
    pcrs = {
        CODE_PCR: "code",
        DEPLOYMENT_PCR: "deployment",
        COMMAND_PCR: f"{name}-command",
        RUNTIME_PCR: "nothing-else-ran",
    }
    return Profile.of(name, pcrs)


def predict(
    root: Path, deployment: str, commands: dict[str, Sequence[str]]
) -> dict[str, tuple[ReferenceEvent, ...]]:
    """Predict the reference values of all machines: `commands` has the argv by profile name."""
    values: dict[str, tuple[ReferenceEvent, ...]] = {"nothing-else-ran": ()}
    for name, argv in commands.items():
        code, deployed, command = measurements(root, deployment, argv)
        values["code"] = (ReferenceEvent(code.description, code.digest),)
        values["deployment"] = (ReferenceEvent(deployed.description, deployed.digest),)
        values[f"{name}-command"] = (ReferenceEvent(command.description, command.digest),)
    return values
