import dataclasses
import sqlite3
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from authn.enrollment import EnrolledIdentity
from authn.evidence import Counters
from authn.portmap import PortEntry
from authn.tpm import Tpm
from gateway.errors import GatewayError
from gateway.store.store import Store
from tests.tpms import running_swtpm

PLACE = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> EnrolledIdentity:
    with running_swtpm(tmp_path_factory.mktemp("tpm")) as tcti, Tpm(tcti) as tpm:
        keys = tpm.provision()
    return EnrolledIdentity("lab/web", "sha256:aa", keys.ek_public, keys.ak_public, b"cert", "u1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "state.db")


@pytest.mark.tpm
def test_an_identity_waits_for_approval_and_survives(tmp_path: Path, identity: EnrolledIdentity) -> None:
    store = Store(tmp_path / "state.db")
    store.enroll(identity, PLACE, approved=False)
    assert store.pending() == [("web", "sha256:aa")]
    with pytest.raises(GatewayError, match="another TPM asked"):
        store.approve("web", "sha256:bb")
    assert store.pending() == [("web", "sha256:aa")]
    store.approve("web", "sha256:aa")
    store.close()
    again = Store(tmp_path / "state.db").identity("web")
    assert again is not None
    assert (again.approved, again.place, again.key.public) == (True, PLACE, identity.ak_public)


@pytest.mark.parametrize(
    "write",
    [
        lambda store: store.quarantine("web", "r"),
        lambda store: store.add_restart("web", 1.0),
        lambda store: store.mark_failed("web", 3),
        lambda store: store.raise_high_water("web", Counters(1, 2, 3, True)),
        lambda store: store.revisions.add("r", "text", 1.0, "me", "applied"),
    ],
)
def test_rejects_what_can_not_be_kept_and_remembers_that(
    tmp_path: Path, write: Callable[[Store], object]
) -> None:
    """It was SQLite's own error: a traceback for whoever asked, and the service went on."""
    store = Store(tmp_path / "state.db")
    store.check()
    store._database.execute("PRAGMA query_only = ON")
    with pytest.raises(GatewayError) as raised:
        write(store)
    assert raised.value.code == "store-failed"
    assert f"{tmp_path / 'state.db'}: attempt to write a readonly database" in raised.value.message
    with pytest.raises(GatewayError) as remembered:
        store.check()
    assert remembered.value is raised.value


def test_the_first_failure_is_the_one_that_is_told(store: Store) -> None:
    """SQLite ends a transaction by itself at some: that it can't be rolled back any more says nothing."""
    (pages,) = store._database.execute("PRAGMA page_count").fetchone()
    store._database.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(GatewayError, match="database or disk is full"):
        store.revisions.add("r", "x" * 1_000_000, 1.0, "me", "applied")
    with pytest.raises(GatewayError, match="database or disk is full"):
        store.check()


def test_rejects_a_transaction_that_can_not_be_ended(store: Store) -> None:
    """A disk that is full shows when a transaction is to be durable."""
    store._database.execute("PRAGMA cache_size = 1")
    with pytest.raises(GatewayError) as raised, store._database:
        store._database.execute("BEGIN")
        store._database.execute("PRAGMA defer_foreign_keys = ON")
        store._database.set_authorizer(
            lambda action, *_: (
                sqlite3.SQLITE_DENY if action == sqlite3.SQLITE_TRANSACTION else sqlite3.SQLITE_OK
            )
        )
    assert raised.value.code == "store-failed"


@pytest.mark.tpm
def test_rejects_a_silent_rebinding(store: Store, identity: EnrolledIdentity) -> None:
    assert store.enroll(identity, PLACE, approved=False)
    assert not store.enroll(identity, PLACE, approved=False)
    assert store.enroll(identity, PLACE, approved=True)
    for approved in (True, False):  # the same again changes nothing
        assert not store.enroll(identity, PLACE, approved=approved)
    moved = dataclasses.replace(PLACE, mac="52:54:00:00:00:02")
    stolen = dataclasses.replace(PLACE, peer="db", ip=IPv4Address("10.0.0.3"))
    for place in (moved, stolen):
        with pytest.raises(GatewayError) as caught:
            store.enroll(identity, place, approved=True)
        assert caught.value.code == "identity-conflict"
    kept = store.identity("web")
    assert kept is not None and kept.place == PLACE and kept.approved


@pytest.mark.tpm
def test_a_key_is_found_where_it_is_enrolled(store: Store, identity: EnrolledIdentity) -> None:
    store.enroll(identity, PLACE, approved=True)
    kept = store.identity("web")
    assert kept is not None
    assert store.holder(kept.key.name) == "web"
    assert store.holder(kept.key.name[:-1] + b"\0\0") is None


@pytest.mark.tpm
def test_a_forgotten_peers_place_is_free_for_another(store: Store, identity: EnrolledIdentity) -> None:
    store.enroll(identity, PLACE, approved=True)
    store.preapprove("web", identity.ek_fingerprint)
    store.raise_high_water("web", Counters(10, 3, 0, True))
    store.quarantine("web", "why")
    assert store.forget("web") == identity.ek_fingerprint
    assert (store.identity("web"), store.high_water("web")) == (None, None)
    assert not store.preapproved("web", identity.ek_fingerprint)
    assert store.quarantined() == {"web": "why"}
    moved = dataclasses.replace(PLACE, mac="52:54:00:00:00:02")
    renewed = dataclasses.replace(identity, ek_fingerprint="sha256:bb", ek_certificate=b"newer")
    store.enroll(renewed, moved, approved=False)
    kept = store.identity("web")
    assert kept is not None
    assert (kept.place, kept.ek_certificate, kept.approved) == (moved, b"newer", False)


@pytest.mark.tpm
def test_the_firmware_of_the_first_handshake_stays_pinned_until_the_peer_is_forgotten(
    store: Store, identity: EnrolledIdentity
) -> None:
    def pinned() -> int | None:
        kept = store.high_water("web")
        return kept.counters.firmware_version if kept else None

    store.enroll(identity, PLACE, approved=True)
    store.raise_high_water("web", Counters(10, 3, 0, True))  # as an image of before kept it
    assert pinned() is None
    for version in (1 << 63, 2):  # of 64 bits, which SQLite's numbers have not
        store.raise_high_water("web", Counters(11, 3, 0, True, version))
        assert pinned() == 1 << 63
    store.forget("web")
    store.raise_high_water("web", Counters(1, 1, 0, True, 2))
    assert pinned() == 2


def test_a_database_of_before_is_taken_up(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    store.raise_high_water("web", Counters(10, 3, 0, True))
    store.close()
    with sqlite3.connect(tmp_path / "state.db") as before:
        before.executescript("DROP TRIGGER firmware_forgotten; DROP TABLE firmware;")
    again = Store(tmp_path / "state.db")
    again.raise_high_water("web", Counters(11, 3, 0, True, 7))
    kept = again.high_water("web")
    assert kept is not None
    assert kept.counters == Counters(11, 3, 0, True, 7)


def test_rejects_forgetting_who_is_not_enrolled(store: Store) -> None:
    store.preapprove("web", "sha256:aa")
    with pytest.raises(GatewayError, match="not enrolled"):
        store.forget("web")
    assert store.preapproved("web", "sha256:aa")


def test_a_failed_peer_is_blocked_until_its_counters_are_raised(store: Store) -> None:
    store.raise_high_water("web", Counters(10, 3, 0, True))
    store.mark_failed("web", None)
    for later in (Counters(10, 3, 0, True), Counters(20, 3, 1, True)):
        blocked = store.high_water("web")
        assert blocked is not None and blocked.failed_at_reset == 3
        store.raise_high_water("web", later)  # verified, but without a reset
    store.raise_high_water("web", Counters(1, 4, 0, True))
    freed = store.high_water("web")
    assert freed is not None and freed.failed_at_reset is None


@pytest.mark.parametrize("proved", [True, False])
def test_a_peer_that_failed_after_a_reboot_is_blocked_until_the_next_one(store: Store, proved: bool) -> None:
    """Also one that never proved anything: its key signed the count that is held against it."""
    if proved:
        store.raise_high_water("web", Counters(10, 3, 0, True))
    store.mark_failed("web", 7)
    store.mark_failed("web", 5)  # an older quote takes nothing back
    store.mark_failed("web", None)
    blocked = store.high_water("web")
    assert blocked is not None and blocked.failed_at_reset == 7
    store.raise_high_water("web", Counters(1, 8, 0, True))
    freed = store.high_water("web")
    assert freed is not None and freed.failed_at_reset is None


def test_who_never_proved_anything_is_not_blocked_by_what_nobody_signed(store: Store) -> None:
    store.mark_failed("web", None)
    assert store.high_water("web") is None


def test_quarantine_and_restarts_survive_and_a_release_clears_both(tmp_path: Path) -> None:
    store = Store(tmp_path / "state.db")
    store.add_restart("web", 5.0)
    store.quarantine("web", "why")
    store.close()
    store = Store(tmp_path / "state.db")
    assert (store.quarantined(), store.restarts("web")) == ({"web": "why"}, [5.0])
    store.release("web")
    assert (store.quarantined(), store.restarts("web")) == ({}, [])


def test_rejects_what_is_no_database_of_ours(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(GatewayError, match=r"state\.db"):
        Store(tmp_path / "state.db")
