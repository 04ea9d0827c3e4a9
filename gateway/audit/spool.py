"""Keep the audit chain on disk: durable before its effect, in batches, by one writer thread.

SQLite in WAL mode with synchronous=FULL: a record that `append` returned survives kill -9 and power loss.
"""

import asyncio
import json
import logging
import os
import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from gateway.audit.chain import GENESIS, Record, record_hash
from gateway.audit.heads import SignedHead
from gateway.audit.kept import read_base, reading, take_away, writing
from gateway.errors import GatewayError

_log = logging.getLogger(__name__)
MAX_BATCH = 1000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS head (counter INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS base (
    one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL, hash BLOB NOT NULL) STRICT;
"""
RESERVE = 16 << 20  # bytes of the disk that no ordinary record takes: a start, and the way out, need some
START_ROOM = RESERVE + (8 << 20)
HEADS_APART = 1000  # records between heads that are kept; a newer head covers all that an older one did
FULL = "audit-full"
WAY_OUT = "take records elsewhere: quotegate audit export FILE, then: quotegate audit prune FILE"
MakeBody = Callable[[int], dict[str, Any]]


class _Job(NamedTuple):
    make_body: MakeBody
    future: "asyncio.Future[Record]"
    loop: asyncio.AbstractEventLoop
    reserved: bool


def free_on_disk(path: Path) -> int:
    """Return how many bytes its disk still takes."""
    disk = os.statvfs(path.parent)
    return disk.f_bavail * disk.f_frsize


class AuditSpool:
    """The chain of one gateway. Failing to write is fatal for the service: nothing happens unrecorded."""

    def __init__(self, path: Path, free: Callable[[Path], int] = free_on_disk) -> None:
        self.path, self._free = path, free
        self._database = open_spool(path)
        self._inode = path.stat().st_ino
        last = self._database.execute(
            "SELECT sequence, hash FROM record ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        self._head: tuple[int, bytes] = (int(last[0]), bytes(last[1])) if last else (0, GENESIS)
        self._recent: deque[SignedHead] = deque()
        self._head_kept = -HEADS_APART
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()

    @property
    def head(self) -> tuple[int, bytes]:
        """The last durable record's number and the chain's hash after it."""
        return self._head

    def room(self) -> int:
        """Return how many bytes there is room for, the reserve among them; blocks shortly. Raises GatewayError."""
        try:
            with reading(self.path) as reader:
                return self._room(reader)
        except OSError as error:
            raise _unwritable(error) from error

    def _room(self, database: sqlite3.Connection) -> int:
        """Count the disk's room, and the file's own that pruning left."""
        pages, size = (
            database.execute(f"PRAGMA {one}").fetchone()[0] for one in ("freelist_count", "page_size")
        )
        return int(self._free(self.path) + pages * size)

    async def append(self, make_body: MakeBody, *, reserved: bool = False) -> Record:
        """Record `make_body(sequence)` and return once it is on disk; raises GatewayError `audit-failed`, `audit-full`.

        `reserved`: it may take what is kept free for the way out of a full disk.
        """
        return await self.hand_over(make_body, reserved=reserved)

    def hand_over(self, make_body: MakeBody, *, reserved: bool = False) -> "asyncio.Future[Record]":
        """Take what is recorded behind all that was handed over before; see `append` for the rest."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Record] = loop.create_future()
        future.add_done_callback(lambda _done: self._changed.set())
        self._jobs.put(_Job(make_body, future, loop, reserved))
        return future

    def read(self, after: int, limit: int = 1000) -> list[dict[str, Any]]:
        """Return up to `limit` records that follow number `after`."""
        with reading(self.path) as reader:
            rows = reader.execute(
                "SELECT body FROM record WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit)
            ).fetchall()
        return [json.loads(row[0]) for row in rows]

    def read_since(self, time_ms: int, limit: int) -> list[dict[str, Any]]:
        """Return the newest records that are not older than `time_ms` (ms since the epoch), at most `limit`."""
        found: list[dict[str, Any]] = []
        with reading(self.path) as reader:
            for (body,) in reader.execute("SELECT body FROM record ORDER BY sequence DESC LIMIT ?", (limit,)):
                record = json.loads(body)
                if record["time"] < time_ms:
                    break
                found.append(record)
        return found

    async def wait_beyond(self, sequence: int) -> None:
        """Wait until there is a record after `sequence`."""
        while self._head[0] <= sequence:
            self._changed.clear()
            await self._changed.wait()

    def save_head(self, head: SignedHead) -> None:
        """Keep a signed head beside the chain: the newest two, and one now and then."""
        self._check_place()
        with writing(self.path) as writer, writer:
            writer.execute("INSERT OR REPLACE INTO head VALUES (?, ?)", (head.counter, head.to_json()))
            self._recent.append(head)
            if len(self._recent) > 2:
                self._keep_or_drop(writer, self._recent.popleft())

    def _keep_or_drop(self, writer: sqlite3.Connection, head: SignedHead) -> None:
        if head.sequence - self._head_kept >= HEADS_APART:
            self._head_kept = head.sequence
        else:
            writer.execute("DELETE FROM head WHERE counter = ?", (head.counter,))

    def _check_place(self) -> None:
        """SQLite writes on to a file that was deleted or replaced meanwhile; nobody would ever read it."""
        try:
            replaced = self.path.stat().st_ino != self._inode
        except FileNotFoundError:
            replaced = True
        if replaced:
            raise GatewayError(
                "audit-failed", f"{self.path} was deleted or replaced; run `quotegate audit verify`"
            )

    def close(self) -> None:
        """Write what is waiting and close."""
        self._jobs.put(None)
        self._thread.join()

    def _write_all(self) -> None:
        for batch in self._batches():
            self._write(batch)
        self._database.close()

    def _batches(self) -> Iterator[list[_Job]]:
        while (job := self._jobs.get()) is not None:
            batch = [job]
            while len(batch) < MAX_BATCH and not self._jobs.empty():
                more = self._jobs.get()
                if more is None:
                    yield batch
                    return
                batch.append(more)
            yield batch

    def _admit(self, batch: list[_Job]) -> list[_Job]:
        """Refuse what the disk has no room for beside the reserve."""
        if self._room(self._database) >= RESERVE:
            return batch
        error = GatewayError(FULL, f"{self.path}: its disk has less than {RESERVE >> 20} MiB left; {WAY_OUT}")
        refused = [job for job in batch if not job.reserved]
        _resolve_all(refused, [None] * len(refused), error)
        return [job for job in batch if job.reserved]

    def _write(self, batch: list[_Job]) -> None:
        try:
            batch = self._admit(batch)
        except (sqlite3.Error, OSError) as failure:
            _resolve_all(batch, [None] * len(batch), _unwritable(failure))
            return
        sequence, previous = self._head
        records: list[Record] = []
        error: GatewayError | None = None
        try:
            for job in batch:
                sequence += 1
                body = json.dumps(job.make_body(sequence), sort_keys=True, separators=(",", ":")).encode()
                previous = record_hash(previous, sequence, body)
                records.append(Record(sequence, body, previous))
            self._check_place()
            with self._database:
                rows = [(record.sequence, record.body, record.hash) for record in records]
                self._database.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
            self._head = (sequence, previous)
        except GatewayError as failure:
            error = failure
        except (sqlite3.Error, OSError) as failure:
            error = _unwritable(failure)
        except Exception as failure:  # noqa: BLE001 - this thread must not die in silence: nobody would be answered
            error = GatewayError(
                "audit-failed", f"an event can't be written as JSON: {failure!r}; please report it"
            )
        _resolve_all(batch, records if error is None else [None] * len(batch), error)


def _unwritable(failure: Exception) -> GatewayError:
    return GatewayError(
        "audit-failed", f"the audit record can't be written: {failure}; free or replace the disk"
    )


def _resolve_all(batch: Sequence[_Job], records: Sequence[Record | None], error: GatewayError | None) -> None:
    for job, record in zip(batch, records, strict=True):
        job.loop.call_soon_threadsafe(_resolve, job.future, record, error)


def _resolve(future: "asyncio.Future[Record]", record: Record | None, error: GatewayError | None) -> None:
    if future.done():
        return
    if record is not None and error is None:
        future.set_result(record)
    elif error is not None:
        future.set_exception(error)


def open_spool(path: Path) -> sqlite3.Connection:
    """Open or create the spool's database; raises GatewayError."""
    try:
        path.touch(mode=0o600)  # SQLite gives its journal the mode of its database
        database = sqlite3.connect(path, check_same_thread=False, timeout=5)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(_SCHEMA)
        base = read_base(database)
    except (sqlite3.Error, OSError) as error:
        raise GatewayError("audit-failed", f"{path}: the audit record can't be opened: {error}") from error
    path.chmod(0o600)
    try:
        take_away(database, base)
    except (
        sqlite3.Error
    ) as error:  # what lies there too long keeps nobody from starting; the next start tries again
        _log.warning("%s: what was pruned could not all be taken away: %s", path, error)
    return database
