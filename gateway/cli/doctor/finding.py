"""What an examination found."""

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How it stands; `NOT_CHECKED` is said aloud, with its reason."""

    OK = "ok"
    WARNING = "warning"
    BAD = "bad"
    NOT_CHECKED = "not-checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and how to mend it (empty where nothing is to be mended)."""

    check: str
    verdict: Verdict
    found: str
    mend: str = ""


def ok(check: str, found: str) -> Finding:
    """Say that a check went well."""
    return Finding(check, Verdict.OK, found)


def bad(check: str, found: str, mend: str) -> Finding:
    """Say what is wrong."""
    return Finding(check, Verdict.BAD, found, mend)


def warn(check: str, found: str, mend: str) -> Finding:
    """Say what will go wrong."""
    return Finding(check, Verdict.WARNING, found, mend)


def skipped(check: str, why: str, mend: str = "") -> Finding:
    """Say what could not be looked at."""
    return Finding(check, Verdict.NOT_CHECKED, why, mend)
