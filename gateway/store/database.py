"""Open the gateway's state database: SQLite, WAL, one writer, durable."""

import sqlite3
from pathlib import Path
from typing import Any, Literal

from gateway.errors import GatewayError

SCHEMA_VERSION = 2
_SCHEMA = """
CREATE TABLE identity (
    peer TEXT PRIMARY KEY, ek_fingerprint TEXT NOT NULL UNIQUE, ek_public BLOB NOT NULL, ak_public BLOB NOT NULL,
    ek_certificate BLOB NOT NULL, uuid TEXT NOT NULL, port TEXT NOT NULL, mac TEXT NOT NULL, ip TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN ('pending', 'approved'))
) STRICT;
CREATE TABLE preapproved (ek_fingerprint TEXT PRIMARY KEY, peer TEXT NOT NULL) STRICT;
CREATE TABLE high_water (
    peer TEXT PRIMARY KEY, clock INTEGER NOT NULL, reset_count INTEGER NOT NULL, restart_count INTEGER NOT NULL,
    failed_at_reset INTEGER
) STRICT;
CREATE TABLE restart (peer TEXT NOT NULL, at REAL NOT NULL) STRICT;
CREATE TABLE quarantine (peer TEXT PRIMARY KEY, reason TEXT NOT NULL) STRICT;
CREATE TABLE policy (
    number INTEGER PRIMARY KEY, revision TEXT NOT NULL, text TEXT NOT NULL, at REAL NOT NULL, actor TEXT NOT NULL,
    outcome TEXT NOT NULL
) STRICT;
CREATE TABLE policy_pending (one INTEGER PRIMARY KEY CHECK (one = 1), fallback INTEGER NOT NULL) STRICT;
CREATE TABLE authority (one INTEGER PRIMARY KEY CHECK (one = 1), sequence INTEGER NOT NULL, not_after REAL,
    deadline REAL NOT NULL, boot_id TEXT NOT NULL, seen REAL NOT NULL) STRICT;
"""
# an image of before, to which an update may fall back, opens the same database: it neither knows these nor minds them
_ADDED = """
CREATE TABLE IF NOT EXISTS firmware (peer TEXT PRIMARY KEY, version TEXT NOT NULL) STRICT;
CREATE TRIGGER IF NOT EXISTS firmware_forgotten AFTER DELETE ON identity
    BEGIN DELETE FROM firmware WHERE peer = OLD.peer; END;
"""


class Database(sqlite3.Connection):
    """Raises GatewayError `store-failed` where the disk or the file is at fault, and remembers it in `failure`."""

    place = Path()
    failure: GatewayError | None = None

    def execute(self, sql: str, parameters: Any = (), /) -> sqlite3.Cursor:
        """Run one statement."""
        try:
            return super().execute(sql, parameters)
        except (sqlite3.IntegrityError, sqlite3.ProgrammingError):
            raise  # what was asked is at fault
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def __exit__(self, *failed: Any) -> Literal[False]:
        """End a transaction."""
        try:
            return super().__exit__(*failed)
        except sqlite3.Error as error:
            raise self._failed(error) from error

    def _failed(self, error: sqlite3.Error) -> GatewayError:
        """Return the first failure, which is the cause: after it a transaction may have ended already."""
        if self.failure is None:
            said = f"{self.place}: {error}; see whether its disk has room and works, then start again"
            self.failure = GatewayError("store-failed", said)
        return self.failure


def open_database(path: Path) -> Database:
    """Open or create; raises GatewayError `store-failed` for what is no database of ours."""
    try:
        path.touch(mode=0o600)  # SQLite gives its journal the mode of its database
        database = sqlite3.connect(path, isolation_level=None, timeout=5, factory=Database)
        database.place = path
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("PRAGMA synchronous=FULL")
        (version,) = database.execute("PRAGMA user_version").fetchone()
        if version == 0:
            database.executescript(f"BEGIN; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;")
        elif version != SCHEMA_VERSION:
            raise GatewayError(
                "store-failed", f"{path}: schema {version} is not known here, expected {SCHEMA_VERSION}"
            )
        database.executescript(_ADDED)
    except (sqlite3.Error, OSError) as error:
        raise GatewayError("store-failed", f"{path}: {error}") from error
    path.chmod(0o600)
    return database
