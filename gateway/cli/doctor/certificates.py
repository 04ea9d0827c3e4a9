"""Certificates and signed documents: what has run out, and what will."""

import datetime as dt
import json
import time
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from gateway.cli.doctor.finding import Finding, bad, ok, skipped, warn

SOON_S = 14 * 86_400.0  # what a lab signs holds for 30 days unless it was told otherwise
DOCUMENTS = ("portmap.json", "references.json")
_HOW = "a lab of virtual machines: quotegate lab down --keep, quotegate lab resume --days 90"


@dataclass(frozen=True, slots=True)
class Validity:
    """From when until when (s since the epoch) something holds; `error` when it could not be read."""

    name: str
    not_before: float = 0.0
    not_after: float = 0.0
    error: str = ""


def judge_validity(one: Validity, now: float) -> Finding:
    """Judge one certificate or document."""
    if one.error:
        return bad(one.name, f"it can't be read: {one.error}", "put the file back, or make it anew")
    if now < one.not_before:
        return bad(
            one.name, f"it holds only from {_day(one.not_before)}", "compare the clocks of both machines"
        )
    if now > one.not_after:
        return bad(
            one.name,
            f"it ran out on {_day(one.not_after)}",
            f"issue it anew; until then who depends on it is refused; {_HOW}",
        )
    left = one.not_after - now
    if left < SOON_S:
        return warn(one.name, f"it runs out on {_day(one.not_after)}", f"issue it anew in time; {_HOW}")
    return ok(one.name, f"holds until {_day(one.not_after)}")


def judge_authority(state: str | None, of: str = "") -> Finding:
    """Judge what the gateway says of the administrator's authority; `of` is what names its lab to a command."""
    if state is None:
        return skipped("authority", "no gateway answers")
    if state == "valid":
        return ok("authority", "an administrator's grant is in force")
    return warn(
        "authority", f"it is {state}: no guest talks to another", f"quotegate authority grant --for 8h{of}"
    )


def read_validities(shared: Path, peers: Path, golden: Path) -> list[Validity]:
    """Look at the signed documents, the firmware's where there is one, the EK root and the peers' EK certificates."""
    found = [_document(shared / name) for name in DOCUMENTS]
    if golden.exists():
        found.append(_document(golden))
    found.append(_certificate(shared / "ek_ca.pem", "root of EK certificates"))
    for path in sorted(peers.glob("*/ek_certificate.der")):
        found.append(_certificate(path, f"EK certificate of {path.parent.name}"))
    return found


def _document(path: Path) -> Validity:
    try:
        return Validity(path.name, 0.0, float(json.loads(path.read_bytes())["document"]["not_after"]))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return Validity(path.name, error=str(error))


def _certificate(path: Path, name: str) -> Validity:
    try:
        data = path.read_bytes()
        certificate = (
            x509.load_pem_x509_certificate(data)
            if path.suffix == ".pem"
            else x509.load_der_x509_certificate(data)
        )
        return Validity(
            name, certificate.not_valid_before_utc.timestamp(), certificate.not_valid_after_utc.timestamp()
        )
    except (OSError, ValueError, x509.InvalidVersion) as error:
        return Validity(name, error=str(error))


def _day(moment: float) -> str:
    try:
        return dt.datetime.fromtimestamp(moment, dt.UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return time.strftime("%Y-%m-%d", time.gmtime(0)) if moment < 0 else "a day beyond all calendars"
