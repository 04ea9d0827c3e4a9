"""Disk: room for the record, and secrets that only their owner can read."""

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from gateway.cli.doctor.finding import Finding, bad, ok, skipped, warn

LOW_BYTES, NONE_BYTES = 1 << 30, 64 << 20
LOW_INODES = 1000
SECRETS = ("*.key", "*.db", "*.db-wal", "tpm2-00.permall")


@dataclass(frozen=True, slots=True)
class DiskFacts:
    """About one directory: free bytes and inodes, whether a write reaches the disk, (secret file, mode) pairs."""

    path: str
    free_bytes: int
    free_inodes: int
    write_error: str
    secrets: tuple[tuple[str, int], ...]
    is_forbidden: bool = False  # to who looked: nothing is known of writes


def judge_disk(facts: DiskFacts) -> list[Finding]:
    """Judge what was found."""
    return [_room(facts), _writing(facts), _secrets(facts)]


def _room(facts: DiskFacts) -> Finding:
    room = f"{facts.free_bytes >> 20} MiB and {facts.free_inodes} inodes are free at {facts.path}"
    mend = "free or enlarge the disk: a gateway that can't record stops"
    # some file systems have no fixed number of inodes and say 0
    if facts.free_bytes < NONE_BYTES or 0 < facts.free_inodes < LOW_INODES // 10:
        return bad("disk space", room, mend)
    if facts.free_bytes < LOW_BYTES or 0 < facts.free_inodes < LOW_INODES:
        return warn("disk space", room, mend)
    return ok("disk space", room)


def _writing(facts: DiskFacts) -> Finding:
    if facts.is_forbidden:
        return skipped("disk writes", f"{facts.path}: {facts.write_error}", "run this as root")
    if facts.write_error:
        return bad(
            "disk writes",
            f"{facts.path}: {facts.write_error}",
            "look at the kernel's log; mount it writable or replace the disk",
        )
    return ok("disk writes", f"a write to {facts.path} reaches the disk")


def _secrets(facts: DiskFacts) -> Finding:
    if not facts.secrets:
        return skipped("secret files", f"none at {facts.path}")
    readable = [f"{path} ({mode:04o})" for path, mode in facts.secrets if mode & 0o077]
    if readable:
        return bad(
            "secret files",
            f"others can read {', '.join(readable)}",
            "chmod 600 them; a key that others could read has to be replaced",
        )
    return ok("secret files", f"{len(facts.secrets)} files, readable by their owners alone")


def probe_disk(directory: Path) -> DiskFacts:
    """Look at the nearest directory that exists. Nothing is left behind: the file that is written has no name."""
    secrets = sorted({path for pattern in SECRETS for path in directory.rglob(pattern)})
    while not directory.exists():
        directory = directory.parent
    space, error = os.statvfs(directory), _write_error(directory)
    return DiskFacts(
        str(directory), space.f_bavail * space.f_frsize, space.f_favail, str(error or ""),
        tuple(_modes(secrets)), isinstance(error, PermissionError),
    )  # fmt: skip


def _modes(paths: Iterable[Path]) -> Iterator[tuple[str, int]]:
    for path in paths:
        with suppress(FileNotFoundError):  # a database's journal comes and goes
            yield str(path), stat.S_IMODE(path.stat().st_mode)


def _write_error(directory: Path) -> OSError | None:
    try:
        descriptor = os.open(directory, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except OSError as error:
        return error
    try:
        os.write(descriptor, b"x" * 4096)
        os.fsync(descriptor)
    except OSError as error:
        return error
    finally:
        os.close(descriptor)
    return None
