"""Remember what must survive a restart of the gateway. Trust is not among it: everybody attests anew."""

import dataclasses
import sqlite3
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from authn.enrollment import EnrolledIdentity
from authn.evidence import Counters
from authn.portmap import PortEntry
from authn.public_area import AttestationKey, key_name
from gateway.errors import GatewayError
from gateway.policy.revisions import Revisions
from gateway.store.database import open_database


@dataclass(frozen=True, slots=True)
class StoredIdentity:
    """An enrolled TPM and the place it is pinned to."""

    peer: str
    ek_fingerprint: str
    key: AttestationKey
    place: PortEntry
    approved: bool
    ek_public: bytes
    ek_certificate: bytes


@dataclass(frozen=True, slots=True)
class HighWater:
    """The highest counters ever verified, by the pinned firmware; `failed_at_reset` blocks a failed peer until it has rebooted."""

    counters: Counters
    failed_at_reset: int | None


@dataclass(frozen=True, slots=True)
class StoredAuthority:
    """The highest sequence accepted and until when its grant holds, by both clocks.

    not_after: seconds since the epoch, None when there is no grant in force. deadline: the same moment in
    CLOCK_BOOTTIME seconds of the boot `boot_id`. seen: the latest time since the epoch that was ever read.
    """

    sequence: int = 0
    not_after: float | None = None
    deadline: float = 0.0
    boot_id: str = ""
    seen: float = 0.0


class Store:
    """The gateway's state on disk; every write is durable when it returns. Raises GatewayError `store-failed` where that can't be."""

    def __init__(self, path: Path) -> None:
        self._database = open_database(path)
        self.revisions = Revisions(self._database)

    def check(self) -> None:
        """Raise the GatewayError by which something could not be kept, since the start: that is no state to go on in."""
        if self._database.failure is not None:
            raise self._database.failure

    def close(self) -> None:
        """Close the database."""
        self._database.close()

    def identity(self, peer: str) -> StoredIdentity | None:
        """Find who is enrolled under a name."""
        row = self._database.execute(
            "SELECT peer, ek_fingerprint, ak_public, ek_public, port, mac, ip, uuid, status, ek_certificate FROM identity WHERE peer = ?",
            (peer,),
        ).fetchone()
        if row is None:
            return None
        name, fingerprint, ak, ek, port, mac, ip, uuid, status, certificate = row
        place = PortEntry(name, port, mac, IPv4Address(ip), uuid)
        return StoredIdentity(
            name,
            fingerprint,
            AttestationKey.from_public(ak, ek),
            place,
            status == "approved",
            ek,
            certificate,
        )

    def holder(self, ak_name: bytes) -> str | None:
        """Find the peer that an attestation key is enrolled for, by the key's name."""
        rows = self._database.execute("SELECT peer, ak_public FROM identity")
        return next((str(peer) for peer, ak_public in rows if key_name(ak_public) == ak_name), None)

    def pending(self) -> list[tuple[str, str]]:
        """List (peer, EK fingerprint) that wait for approval."""
        rows = self._database.execute(
            "SELECT peer, ek_fingerprint FROM identity WHERE status = 'pending' ORDER BY peer"
        )
        return [(str(peer), str(fingerprint)) for peer, fingerprint in rows]

    def enroll(self, identity: EnrolledIdentity, place: PortEntry, *, approved: bool) -> bool:
        """Pin a TPM to a name and a place; tell whether that changed anything.

        Raises GatewayError `identity-conflict`, never re-binds (CVE-2025-13609).
        """
        existing = self.identity(place.peer)
        if existing is not None and existing.key.public == identity.ak_public and existing.place == place:
            if existing.approved or not approved:
                return False
            self.approve(place.peer, existing.ek_fingerprint)
            return True
        try:
            self._database.execute(
                "INSERT INTO identity VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    place.peer,
                    identity.ek_fingerprint,
                    identity.ek_public,
                    identity.ak_public,
                    identity.ek_certificate,
                    place.uuid,
                    place.port,
                    place.mac,
                    str(place.ip),
                    "approved" if approved else "pending",
                ),
            )
        except sqlite3.IntegrityError:
            raise GatewayError(
                "identity-conflict",
                f"{place.peer} or its EK is enrolled already with another identity or place",
            ) from None
        return True

    def asked(self, peer: str) -> StoredIdentity:
        """Find who asked to be enrolled under a name; raises GatewayError `unknown-peer`."""
        identity = self.identity(peer)
        if identity is None:
            raise GatewayError("unknown-peer", f"{peer} has not asked to be enrolled; start its agent first")
        return identity

    def approve(self, peer: str, ek_fingerprint: str) -> None:
        """Approve a pending identity by its TPM; raises GatewayError `unknown-peer`, also where another TPM asked meanwhile."""
        if self.asked(peer).ek_fingerprint != ek_fingerprint:
            raise GatewayError(
                "unknown-peer",
                f"{peer}: another TPM asked to be enrolled meanwhile; look at it, then approve that one",
            )
        self._database.execute("UPDATE identity SET status = 'approved' WHERE peer = ?", (peer,))

    def forget(self, peer: str) -> str:
        """Unpin a peer: its place is free for another TPM; return the EK's fingerprint. Raises GatewayError `unknown-peer`.

        The new TPM counts from its own beginning. A quarantine and the restarts that were used up stay.
        """
        known = self.identity(peer)
        if known is None:
            raise GatewayError("unknown-peer", f"{peer} is not enrolled: there is nothing to forget")
        with self._database:
            self._database.execute("BEGIN")
            self._database.execute("DELETE FROM identity WHERE peer = ?", (peer,))
            self._database.execute("DELETE FROM high_water WHERE peer = ?", (peer,))
            self._database.execute(
                "DELETE FROM preapproved WHERE ek_fingerprint = ?", (known.ek_fingerprint,)
            )
        return known.ek_fingerprint

    def preapprove(self, peer: str, ek_fingerprint: str) -> None:
        """Approve a TPM before it shows up, by its EK certificate's fingerprint."""
        self._database.execute("INSERT OR REPLACE INTO preapproved VALUES (?, ?)", (ek_fingerprint, peer))

    def preapproved(self, peer: str, ek_fingerprint: str) -> bool:
        """Tell whether this TPM was approved beforehand for this name."""
        row = self._database.execute(
            "SELECT peer FROM preapproved WHERE ek_fingerprint = ?", (ek_fingerprint,)
        ).fetchone()
        return row is not None and row[0] == peer

    def high_water(self, peer: str) -> HighWater | None:
        """Return the highest counters verified for a peer."""
        row = self._database.execute(
            "SELECT clock, reset_count, restart_count, failed_at_reset, version FROM high_water LEFT JOIN firmware USING (peer) "
            "WHERE peer = ?",
            (peer,),
        ).fetchone()
        if row is None:
            return None
        firmware = None if row[4] is None else int(row[4], 16)
        return HighWater(Counters(row[0], row[1], row[2], True, firmware), row[3])

    def raise_high_water(self, peer: str, counters: Counters) -> None:
        """Note verified counters; a failure is overcome by a greater reset count, and by nothing else.

        The firmware version of the first stays pinned until the peer is forgotten.
        """
        values = (peer, counters.clock, counters.reset_count, counters.restart_count)
        firmware = counters.firmware_version
        with self._database:
            self._database.execute("BEGIN")
            if firmware is not None:
                self._database.execute(
                    "INSERT OR IGNORE INTO firmware VALUES (?, ?)", (peer, f"{firmware:x}")
                )
            self._database.execute(
                "INSERT INTO high_water VALUES (?, ?, ?, ?, NULL) ON CONFLICT (peer) DO UPDATE SET clock = excluded.clock, "
                "reset_count = excluded.reset_count, restart_count = excluded.restart_count, "
                "failed_at_reset = CASE WHEN excluded.reset_count > failed_at_reset THEN NULL ELSE failed_at_reset END",
                values,
            )

    def mark_failed(self, peer: str, reset_count: int | None) -> None:
        """Block a peer until its TPM's reset count has grown above this one (None: unknown) and the one verified last."""
        if reset_count is not None:  # also one that never proved anything
            self._database.execute("INSERT OR IGNORE INTO high_water VALUES (?, 0, 0, 0, NULL)", (peer,))
        self._database.execute(
            "UPDATE high_water SET failed_at_reset = MAX(reset_count, COALESCE(failed_at_reset, 0), ?) WHERE peer = ?",
            (reset_count or 0, peer),
        )

    def restarts(self, peer: str) -> list[float]:
        """Return when a peer was restarted (s since the epoch)."""
        rows = self._database.execute("SELECT at FROM restart WHERE peer = ? ORDER BY at", (peer,))
        return [float(row[0]) for row in rows]

    def add_restart(self, peer: str, at: float) -> None:
        """Count a restart against the peer's budget."""
        self._database.execute("INSERT INTO restart VALUES (?, ?)", (peer, at))

    def quarantined(self) -> dict[str, str]:
        """Return the reason by quarantined peer."""
        return {
            str(peer): str(reason)
            for peer, reason in self._database.execute("SELECT peer, reason FROM quarantine")
        }

    def quarantine(self, peer: str, reason: str) -> None:
        """Keep a peer out until an operator releases it."""
        self._database.execute("INSERT OR REPLACE INTO quarantine VALUES (?, ?)", (peer, reason))

    def release(self, peer: str) -> None:
        """End a quarantine and give the peer a fresh restart budget."""
        self._database.execute("DELETE FROM quarantine WHERE peer = ?", (peer,))
        self._database.execute("DELETE FROM restart WHERE peer = ?", (peer,))

    def authority(self) -> StoredAuthority:
        """Return the authority as it was kept last."""
        row = self._database.execute(
            "SELECT sequence, not_after, deadline, boot_id, seen FROM authority"
        ).fetchone()
        return StoredAuthority() if row is None else StoredAuthority(*row)

    def save_authority(self, authority: StoredAuthority) -> None:
        """Keep the authority in force, or that there is none."""
        values = dataclasses.astuple(authority)
        self._database.execute(
            "INSERT OR REPLACE INTO authority (one, sequence, not_after, deadline, boot_id, seen) VALUES (1, ?, ?, ?, ?, ?)",
            values,
        )
