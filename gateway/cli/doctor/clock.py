"""Clock: certificates, grants and reference sets are only as good as it is."""

import ctypes
import time
from dataclasses import dataclass
from pathlib import Path

import gateway
from gateway.cli.doctor.finding import Finding, bad, ok, skipped, warn

TIME_ERROR = 5
DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class ClockFacts:
    """Times in seconds since the epoch; `last_record` is the newest audit record's, None without a gateway."""

    now: float
    installed: float
    synchronised: bool | None
    last_record: float | None


def judge_clock(facts: ClockFacts) -> list[Finding]:
    """Judge what was found."""
    return [_plausible(facts), _synchronised(facts), _records(facts)]


def _plausible(facts: ClockFacts) -> Finding:
    behind = facts.installed - facts.now
    if behind > DAY_S:
        return bad(
            "clock",
            f"it is {behind / DAY_S:.0f} days before this software was installed",
            "set the clock, then sign grants and reference sets anew",
        )
    return ok("clock", time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(facts.now)))


def _synchronised(facts: ClockFacts) -> Finding:
    if facts.synchronised is None:
        return skipped("clock synchronisation", "the kernel does not say")
    if facts.synchronised:
        return ok("clock synchronisation", "the kernel's clock is synchronised")
    return warn(
        "clock synchronisation",
        "nobody keeps the clock right",
        "run an NTP client, such as chrony or systemd-timesyncd",
    )


def _records(facts: ClockFacts) -> Finding:
    if facts.last_record is None:
        return skipped("clock against the record", "no gateway answers, or nothing is recorded yet")
    ahead = facts.last_record - facts.now
    if ahead > 5:
        return bad(
            "clock against the record",
            f"the newest audit record is {ahead:.0f} s in the future: the clock was set back",
            "find out who set it; grants that were in force are void",
        )
    return ok("clock against the record", "no record is from the future")


def probe_clock(last_record: float | None) -> ClockFacts:
    """Look."""
    package = Path(gateway.__file__).stat().st_mtime
    return ClockFacts(time.time(), package, _kernel_synchronised(), last_record)


def _kernel_synchronised() -> bool | None:
    """Ask adjtimex(2), changing nothing (modes = 0)."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = libc.adjtimex(ctypes.create_string_buffer(512))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != TIME_ERROR
