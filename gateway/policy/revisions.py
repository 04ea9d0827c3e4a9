"""Remember every policy that was in force: its text, who put it there, and which one is on probation."""

import sqlite3
from dataclasses import dataclass

from gateway.errors import GatewayError

ON_PROBATION = "to be confirmed"


@dataclass(frozen=True, slots=True)
class Revision:
    """One entry of the history. `revision` is the SHA-256 of the text, `at` seconds since the epoch.

    outcome: how it came into force; of one on probation also how that ended.
    """

    number: int
    revision: str
    at: float
    actor: str
    outcome: str


class Revisions:
    """The history in the gateway's database; every write is durable when it returns, else raises GatewayError `store-failed`."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def add(
        self, revision: str, text: str, at: float, actor: str, outcome: str, fallback: int | None = None
    ) -> int:
        """Note the policy that is now in force and return its number; `fallback` puts it on probation."""
        with self._transaction():
            self._end_probation("not confirmed")
            cursor = self._database.execute(
                "INSERT INTO policy (revision, text, at, actor, outcome) VALUES (?, ?, ?, ?, ?)",
                (revision, text, at, actor, outcome),
            )
            if fallback is not None:
                self._database.execute("INSERT INTO policy_pending VALUES (1, ?)", (fallback,))
        return int(cursor.lastrowid or 0)

    def confirm(self) -> None:
        """End the probation well."""
        with self._transaction():
            self._end_probation("confirmed")

    def _end_probation(self, outcome: str) -> None:
        self._database.execute(
            "UPDATE policy SET outcome = ? WHERE outcome = ? AND number = (SELECT max(number) FROM policy) "
            "AND EXISTS (SELECT 1 FROM policy_pending)",
            (outcome, ON_PROBATION),
        )
        self._database.execute("DELETE FROM policy_pending")

    def pending_fallback(self) -> int | None:
        """Return the revision that stands behind one on probation."""
        row = self._database.execute("SELECT fallback FROM policy_pending").fetchone()
        return None if row is None else int(row[0])

    def current(self) -> Revision | None:
        """Return what was last put in force."""
        found = self.history(1)
        return found[0] if found else None

    def history(self, limit: int = 100) -> list[Revision]:
        """List the newest entries first."""
        rows = self._database.execute(
            "SELECT number, revision, at, actor, outcome FROM policy ORDER BY number DESC LIMIT ?", (limit,)
        )
        return [Revision(*row) for row in rows]

    def text(self, number: int) -> str:
        """Return an entry's text; raises GatewayError `unknown-revision`."""
        row = self._database.execute("SELECT text FROM policy WHERE number = ?", (number,)).fetchone()
        if row is None:
            raise GatewayError(
                "unknown-revision", f"no policy has the number {number}; see: quotegate policy history"
            )
        return str(row[0])

    def find(self, wanted: str) -> Revision:
        """Find an entry by its number or by the beginning of its hash; raises GatewayError `unknown-revision`."""
        for one in self.history(-1):
            if wanted == str(one.number) or (len(wanted) >= 8 and one.revision.startswith(wanted)):
                return one
        raise GatewayError(
            "unknown-revision",
            f"no policy has the number or hash {wanted!r} (8 digits at least); see: quotegate policy history",
        )

    def before(self) -> Revision:
        """Find the newest entry with another text than the one in force; raises GatewayError `unknown-revision`."""
        entries = self.history(-1)
        for one in entries[1:]:
            if one.revision != entries[0].revision:
                return one
        raise GatewayError("unknown-revision", "there is no earlier policy to go back to")

    def _transaction(self) -> "_Transaction":
        return _Transaction(self._database)


class _Transaction:
    """All or nothing, on a connection that commits by itself."""

    def __init__(self, database: sqlite3.Connection) -> None:
        self._database = database

    def __enter__(self) -> None:
        self._database.execute("BEGIN IMMEDIATE")

    def __exit__(self, failed: object, *_: object) -> None:
        try:
            if not failed:
                self._database.execute("COMMIT")
        finally:
            if self._database.in_transaction:  # a full disk ends it, a commit that failed does not
                self._database.execute("ROLLBACK")
