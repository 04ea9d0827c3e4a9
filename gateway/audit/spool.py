"""Keep the audit chain on disk: durable before its effect, in batches, by one writer thread.

SQLite in WAL mode with synchronous=FULL: a record that `append` returned survives kill -9 and power loss.
"""

import asyncio
import json
import queue
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from gateway.audit.chain import GENESIS, Record, record_hash
from gateway.audit.heads import SignedHead
from gateway.errors import GatewayError

MAX_BATCH = 1000
_SCHEMA = """
CREATE TABLE IF NOT EXISTS record (sequence INTEGER PRIMARY KEY, body BLOB NOT NULL, hash BLOB NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS head (counter INTEGER PRIMARY KEY, body TEXT NOT NULL) STRICT;
"""
MakeBody = Callable[[int], dict[str, Any]]
_Job = tuple[MakeBody, "asyncio.Future[Record]", asyncio.AbstractEventLoop]


class AuditSpool:
    """The chain of one gateway. Failing to write is fatal for the service: nothing happens unrecorded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._database = open_spool(path)
        self._inode = path.stat().st_ino
        last = self._database.execute(
            "SELECT sequence, hash FROM record ORDER BY sequence DESC LIMIT 1"
        ).fetchone()
        self._head: tuple[int, bytes] = (int(last[0]), bytes(last[1])) if last else (0, GENESIS)
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._changed = asyncio.Event()
        self._thread = threading.Thread(target=self._write_all, name="audit", daemon=True)
        self._thread.start()

    @property
    def head(self) -> tuple[int, bytes]:
        """The last durable record's number and the chain's hash after it."""
        return self._head

    async def append(self, make_body: MakeBody) -> Record:
        """Record `make_body(sequence)` and return once it is on disk; raises GatewayError `audit-failed`."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Record] = loop.create_future()
        self._jobs.put((make_body, future, loop))
        record = await future
        self._changed.set()
        return record

    def read(self, after: int, limit: int = 1000) -> list[dict[str, Any]]:
        """Return up to `limit` records that follow number `after`."""
        with sqlite3.connect(f"file:{self.path}?mode=ro", uri=True) as reader:
            rows = reader.execute(
                "SELECT body FROM record WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit)
            ).fetchall()
        reader.close()
        return [json.loads(row[0]) for row in rows]

    def read_since(self, time_ms: int, limit: int) -> list[dict[str, Any]]:
        """Return the newest records that are not older than `time_ms` (ms since the epoch), at most `limit`."""
        found: list[dict[str, Any]] = []
        reader = sqlite3.connect(f"file:{self.path}?mode=ro", uri=True)
        try:
            for (body,) in reader.execute("SELECT body FROM record ORDER BY sequence DESC LIMIT ?", (limit,)):
                record = json.loads(body)
                if record["time"] < time_ms:
                    break
                found.append(record)
        finally:
            reader.close()
        return found

    async def wait_beyond(self, sequence: int) -> None:
        """Wait until there is a record after `sequence`."""
        while self._head[0] <= sequence:
            self._changed.clear()
            await self._changed.wait()

    def save_head(self, head: SignedHead) -> None:
        """Keep a signed head beside the chain."""
        self._check_place()
        with sqlite3.connect(f"file:{self.path}?mode=rw", uri=True, timeout=5) as writer:
            writer.execute("PRAGMA synchronous=FULL")
            writer.execute("INSERT OR REPLACE INTO head VALUES (?, ?)", (head.counter, head.to_json()))
        writer.close()

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

    def _write(self, batch: list[_Job]) -> None:
        sequence, previous = self._head
        records = []
        for make_body, _, _ in batch:
            sequence += 1
            body = json.dumps(make_body(sequence), sort_keys=True, separators=(",", ":")).encode()
            previous = record_hash(previous, sequence, body)
            records.append(Record(sequence, body, previous))
        error: GatewayError | None = None
        try:
            self._check_place()
            with self._database:
                rows = [(record.sequence, record.body, record.hash) for record in records]
                self._database.executemany("INSERT INTO record VALUES (?, ?, ?)", rows)
            self._head = (sequence, previous)
        except GatewayError as failure:
            error = failure
        except (sqlite3.Error, OSError) as failure:
            error = GatewayError(
                "audit-failed", f"the audit record can't be written: {failure}; free or replace the disk"
            )
        for (_, future, loop), record in zip(batch, records, strict=True):
            loop.call_soon_threadsafe(_resolve, future, record, error)


def _resolve(future: "asyncio.Future[Record]", record: Record, error: GatewayError | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(record)
    else:
        future.set_exception(error)


def open_spool(path: Path) -> sqlite3.Connection:
    """Open or create the spool's database; raises GatewayError."""
    try:
        path.touch(mode=0o600)  # SQLite gives its journal the mode of its database
        database = sqlite3.connect(path, check_same_thread=False, timeout=5)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        database.executescript(_SCHEMA)
    except (sqlite3.Error, OSError) as error:
        raise GatewayError("audit-failed", f"{path}: the audit record can't be opened: {error}") from error
    path.chmod(0o600)
    return database


def read_records(path: Path) -> Iterator[Record]:
    """Read the chain for verification."""
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        for sequence, body, digest in reader.execute(
            "SELECT sequence, body, hash FROM record ORDER BY sequence"
        ):
            yield Record(sequence, body, digest)
    finally:
        reader.close()


def read_heads(path: Path) -> list[SignedHead]:
    """Read the signed heads, oldest first; what is not a head raises ValueError."""
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return [
            SignedHead.from_json(row[0]) for row in reader.execute("SELECT body FROM head ORDER BY counter")
        ]
    finally:
        reader.close()
