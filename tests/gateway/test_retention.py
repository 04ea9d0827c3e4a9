"""The record does not fill its disk for good: few heads are kept, a reserve stays free, and what an operator has elsewhere goes."""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from authn import labels
from authn.pcr import PcrSelection
from authn.public_area import AttestationKey
from authn.tpm import Tpm
from filters.netd.protocol import Disconnected
from gateway.audit import kept as kept_module
from gateway.audit import spool as spool_module
from gateway.audit import verify as verify_module
from gateway.audit.chain import Record, first_break
from gateway.audit.heads import SignedHead
from gateway.audit.kept import (
    Base,
    check_prunable,
    newest_counter,
    prune,
    reading,
    stream_heads,
    take_away,
)
from gateway.audit.recorder import Recorder
from gateway.audit.spool import FULL, RESERVE, START_ROOM, AuditSpool, open_spool
from gateway.audit.verify import KnownHead, verify_audit
from gateway.clock import SystemClock
from gateway.daemon import record_keeper
from gateway.daemon.record_keeper import LITTLE_ROOM, RecordKeeper
from gateway.errors import GatewayError
from gateway.events import model

SELECTION = PcrSelection.of([4])


@dataclass
class Disk:
    """How much is free, in the test's hands."""

    free: int = 1 << 30

    def __call__(self, _: Path) -> int:
        return self.free


@dataclass
class Kept:
    """A record that is being written, and the TPM that signs its heads."""

    path: Path
    tpm: Tpm | None = None
    disk: Disk = field(default_factory=Disk)
    known: list[KnownHead] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spool = AuditSpool(self.path, self.disk)
        self.recorder = Recorder(self.spool, SystemClock(), "lab/gateway", lambda: "rev")

    async def note(self, count: int) -> None:
        events = [model.EventsLost("x" * 700, number) for number in range(count)]
        await asyncio.gather(*map(self.recorder.record, events))
        self.known.append(KnownHead("web", *self.spool.head))

    def sign(self) -> None:
        assert self.tpm is not None
        sequence, digest = self.spool.head
        counter = self.tpm.increment_counter()
        quote = self.tpm.quote(SELECTION, labels.audit_head(sequence, digest, counter))
        self.spool.save_head(SignedHead(sequence, digest, counter, quote, 0))

    async def prune(self, base: Base) -> None:
        await self.recorder.record(model.AuditPruned(base.sequence, base.hash.hex(), "uid 0"), reserved=True)
        prune(self.path, base)

    def codes(self, key: AttestationKey) -> set[str]:
        assert self.tpm is not None
        found = verify_audit(self.path, key, self.tpm.read_counter(), self.known)
        return {finding.code for finding in found[1]}


def told(path: Path, story: Callable[[Kept], Any], tpm: Tpm | None = None) -> Kept:
    """Run a story before a record; close it."""

    async def run() -> Kept:
        kept = Kept(path, tpm)
        try:
            await story(kept)
        finally:
            kept.spool.close()
        return kept

    return asyncio.run(run())


def rows(path: Path, sql: str) -> list[Any]:
    with sqlite3.connect(path) as database:
        found = database.execute(sql).fetchall()
    database.close()
    return [one[0] for one in found]


def head(number: int) -> SignedHead:
    quote: Any = SimpleNamespace(attest=b"", signature=b"")
    return SignedHead(number, bytes(32), number, quote, 0)


def test_rejects_to_keep_a_head_for_every_second(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool_module, "HEADS_APART", 100)

    async def story(kept: Kept) -> None:
        for number in range(1, 251):
            kept.spool.save_head(head(number))

    told(tmp_path / "a.db", story)
    assert rows(tmp_path / "a.db", "SELECT counter FROM head ORDER BY counter") == [1, 101, 201, 249, 250]
    assert newest_counter(tmp_path / "a.db") == 250


def test_a_start_reads_no_head_but_the_newest(tmp_path: Path) -> None:
    """Heads that are not even JSON: whoever read them would fail."""

    async def story(_: Kept) -> None:
        return None

    told(tmp_path / "a.db", story)
    assert newest_counter(tmp_path / "a.db") == 0
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.executemany("INSERT INTO head VALUES (?, 'no head')", [(7,), (3,)])
    database.close()
    assert newest_counter(tmp_path / "a.db") == 7


def test_heads_are_read_one_by_one(tmp_path: Path) -> None:
    async def story(kept: Kept) -> None:
        kept.spool.save_head(head(1))

    told(tmp_path / "a.db", story)
    with sqlite3.connect(tmp_path / "a.db") as database:
        database.execute("INSERT INTO head VALUES (9, 'no head')")
    database.close()
    with reading(tmp_path / "a.db") as reader:
        assert next(stream_heads(reader, 1 << 62)).counter == 1


@pytest.mark.tpm
def test_what_was_pruned_on_record_is_not_missed(tmp_path: Path, tpm: Tpm, key: AttestationKey) -> None:
    async def story(kept: Kept) -> None:
        for _ in range(3):
            await kept.note(30)
            kept.sign()
        first, second, _ = kept.known
        for one in (first, second):
            check_prunable(kept.path, key, one.sequence, one.hash)
            await kept.prune(Base(one.sequence, one.hash))
            assert kept.codes(key) == set()
        kept.sign()
        assert kept.codes(key) == set()
        assert rows(kept.path, "SELECT min(sequence) FROM record") == [61]

    told(tmp_path / "a.db", story, tpm)


@pytest.mark.tpm
@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        ("UPDATE base SET sequence = 40, hash = (SELECT hash FROM record WHERE sequence = 40)", "cut-unrecorded"),
        ("UPDATE base SET hash = zeroblob(32)", "broken-chain"),
        ("DELETE FROM base", "broken-chain"),
        ("DELETE FROM record WHERE sequence = 31", "broken-chain"),
        ("UPDATE record SET body = x'7b7d' WHERE sequence = 50", "broken-chain"),
        ("DELETE FROM record WHERE sequence > 70", "truncated"),
        ("DELETE FROM head", "restored"),
    ],
)  # fmt: skip
def test_damage_after_a_pruning_shows(
    tmp_path: Path, tpm: Tpm, key: AttestationKey, damage: str, expected: str
) -> None:
    async def story(kept: Kept) -> None:
        for _ in range(3):
            await kept.note(30)
            kept.sign()
        await kept.prune(Base(kept.known[0].sequence, kept.known[0].hash))

    kept = told(tmp_path / "a.db", story, tpm)
    assert kept.codes(key) == set()
    with sqlite3.connect(kept.path) as database:
        database.execute(damage)
    database.close()
    assert expected in kept.codes(key)


@pytest.mark.tpm
def test_rejects_a_record_cut_at_its_beginning_without_a_word(
    tmp_path: Path, tpm: Tpm, key: AttestationKey
) -> None:
    async def story(kept: Kept) -> None:
        await kept.note(30)
        kept.sign()

    kept = told(tmp_path / "a.db", story, tpm)
    with reading(kept.path) as reader:
        (digest,) = reader.execute("SELECT hash FROM record WHERE sequence = 20").fetchone()
    prune(kept.path, Base(20, digest))
    assert kept.codes(key) == {"cut-unrecorded"}


@pytest.mark.tpm
def test_rejects_to_prune_what_the_caller_has_not_read_or_nobody_signed(
    tmp_path: Path, tpm: Tpm, key: AttestationKey
) -> None:
    def refusal(kept: Kept, through: int, digest: bytes) -> str:
        with pytest.raises(GatewayError) as refused:
            check_prunable(kept.path, key, through, digest)
        assert refused.value.code == "not-prunable"
        return refused.value.message

    async def story(kept: Kept) -> None:
        await kept.note(10)
        assert "covers" in refusal(kept, *kept.spool.head)
        kept.sign()
        await kept.note(10)
        signed, unsigned = kept.known
        assert "another hash" in refusal(kept, signed.sequence, bytes(32))
        assert "not here" in refusal(kept, 99, signed.hash)
        assert "covers" in refusal(kept, unsigned.sequence, unsigned.hash)
        await kept.prune(Base(signed.sequence, signed.hash))
        assert "gone already" in refusal(kept, signed.sequence, signed.hash)

    told(tmp_path / "a.db", story, tpm)


def test_a_pruning_that_was_cut_short_is_finished_at_the_next_start(tmp_path: Path) -> None:
    async def story(kept: Kept) -> None:
        await kept.note(30)

    path = told(tmp_path / "a.db", story).path
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO base SELECT 1, sequence, hash FROM record WHERE sequence = 20")
    database.close()
    told(path, story)
    assert rows(path, "SELECT min(sequence) FROM record") == [21]


def test_rejects_a_record_that_would_take_the_reserve(tmp_path: Path) -> None:
    async def story(kept: Kept) -> None:
        await kept.note(2)
        kept.disk.free = RESERVE - 1
        with pytest.raises(GatewayError, match="quotegate audit export") as refused:
            await kept.note(2)
        assert refused.value.code == FULL
        record = await kept.recorder.record(model.AuditPruned(1, "00", "uid 0"), reserved=True)
        assert record.sequence == 3
        kept.disk.free = RESERVE
        await kept.note(1)

    told(tmp_path / "a.db", story)


def test_a_disk_that_tells_nothing_of_its_room_fails_what_is_to_be_recorded(tmp_path: Path) -> None:
    """Not the thread that writes: everything would wait for it for ever."""

    def vanished(_: Path) -> int:
        raise OSError("no such disk")

    async def story(kept: Kept) -> None:
        kept.spool._free = vanished
        for _ in range(2):
            with pytest.raises(GatewayError) as refused:
                await asyncio.wait_for(kept.note(1), 5)
            assert refused.value.code == "audit-failed"
        with pytest.raises(GatewayError, match="no such disk"):
            kept.spool.room()

    told(tmp_path / "a.db", story)


def test_rejects_to_measure_a_record_that_was_deleted(tmp_path: Path) -> None:
    async def story(kept: Kept) -> None:
        kept.path.unlink()
        with pytest.raises(GatewayError) as refused:
            kept.spool.room()
        assert refused.value.code == "audit-failed"

    told(tmp_path / "a.db", story)


def test_pruning_makes_room_in_the_file_itself(tmp_path: Path) -> None:
    """The file does not shrink: on a full disk there would be no room to write it anew."""

    async def story(kept: Kept) -> None:
        await kept.note(3000)
        kept.disk.free = 0
        before = kept.spool.room()
        prune(kept.path, Base(2990, b""))
        assert kept.spool.room() > before + 2990 * 1000

    told(tmp_path / "a.db", story)


def keeper(kept: Kept, events: "asyncio.Queue[Any] | None" = None) -> RecordKeeper:
    netd: Any = SimpleNamespace(events=events or asyncio.Queue())
    return RecordKeeper(kept.recorder, cast(Any, None), netd, SystemClock())


def test_a_start_on_a_full_disk_says_so_and_waits_for_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(record_keeper, "LOOK_AGAIN_S", 0.01)

    async def story(kept: Kept) -> None:
        kept.disk.free, closed, events = START_ROOM - 1, asyncio.Event(), asyncio.Queue[Any]()
        looking = keeper(kept, events)
        task = asyncio.create_task(looking.wait_for_room(closed.set))
        await asyncio.wait_for(closed.wait(), 5)
        events.put_nowait("a dropped packet")
        await asyncio.sleep(0.1)
        assert (task.done(), looking.full, events.empty()) == (False, True, True)
        kept.disk.free = START_ROOM
        await asyncio.wait_for(task, 5)
        assert not looking.full

    told(tmp_path / "a.db", story)
    assert caplog.text.count("nobody is trusted") == 1


def test_waiting_for_room_ends_with_netd(tmp_path: Path) -> None:
    async def story(kept: Kept) -> None:
        kept.disk.free, events = 0, asyncio.Queue[Any]()
        events.put_nowait(Disconnected())
        with pytest.raises(GatewayError, match="netd is gone"):
            await keeper(kept, events).wait_for_room(lambda: None)

    told(tmp_path / "a.db", story)


def test_it_is_told_once_and_in_time_that_the_disk_fills(tmp_path: Path) -> None:
    async def story(kept: Kept) -> None:
        looking = keeper(kept)
        await looking.watch_room()
        kept.disk.free = LITTLE_ROOM - (1 << 20)
        for _ in range(3):
            await looking.watch_room()
        await kept.recorder.flush()

    kept = told(tmp_path / "a.db", story)
    (filling,) = kept.spool.read(0)
    assert filling["unmapped"]["room_mib"] == (LITTLE_ROOM >> 20) - 1


def test_it_is_told_anew_when_the_disk_fills_again(tmp_path: Path) -> None:
    """Whoever made room once was not warned any more, until everybody was cut."""

    async def story(kept: Kept) -> None:
        looking = keeper(kept)
        for room in (LITTLE_ROOM - 1, LITTLE_ROOM + 1, LITTLE_ROOM - 1, 2 * LITTLE_ROOM, LITTLE_ROOM - 1):
            kept.disk.free = room
            await looking.watch_room()
        await kept.recorder.flush()

    assert len(told(tmp_path / "a.db", story).spool.read(0)) == 2


def test_rejects_to_take_all_heads_away_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An earlier version kept one for every second: nobody else could write meanwhile, and the journal needs room."""
    monkeypatch.setattr(kept_module, "AT_ONCE", 10)
    database = open_spool(tmp_path / "a.db")
    with database:
        rows_of_heads = [(number, head(number).to_json()) for number in range(1, 96)]
        database.executemany("INSERT INTO head VALUES (?, ?)", rows_of_heads)
    most, before = 0, database.total_changes

    def watch(statement: str) -> None:
        nonlocal most, before
        if statement == "COMMIT":
            most, before = max(most, database.total_changes - before), database.total_changes

    database.set_trace_callback(watch)
    take_away(database, Base(91, b""))
    database.close()
    assert most == 10
    assert rows(tmp_path / "a.db", "SELECT counter FROM head") == [91, 92, 93, 94, 95]


def test_a_start_does_not_fail_when_what_was_pruned_can_not_be_taken_away(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def story(kept: Kept) -> None:
        await kept.note(30)

    path = told(tmp_path / "a.db", story).path
    with sqlite3.connect(path) as database:
        database.execute("INSERT INTO base SELECT 1, sequence, hash FROM record WHERE sequence = 20")
        database.execute(
            "CREATE TRIGGER full BEFORE DELETE ON record BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"
        )
    database.close()
    told(path, story)
    assert rows(path, "SELECT max(sequence) FROM record") == [60]
    assert "disk is full" in caplog.text


def halfway(monkeypatch: pytest.MonkeyPatch, act: Callable[[], None]) -> None:
    """Do something while the next verification is at record 15."""
    waiting = [act]

    def watched(records: Iterable[Record]) -> Iterator[Record]:
        for record in records:
            if record.sequence == 15 and waiting:
                waiting.pop()()
            yield record

    monkeypatch.setattr(kept_module, "AT_ONCE", 1)
    monkeypatch.setattr(verify_module, "first_break", lambda records, *of: first_break(watched(records), *of))


def test_a_verification_does_not_keep_the_journal_from_being_used_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    busy: list[int] = []

    async def story(kept: Kept) -> None:
        await kept.note(30)

        def write_on() -> None:
            with sqlite3.connect(kept.path, timeout=0) as other:
                other.execute("CREATE TABLE more (x)")
                other.commit()
                busy.append(other.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
            other.close()

        halfway(monkeypatch, write_on)
        assert verify_audit(kept.path, cast(Any, None), None, ()) == (30, [])

    told(tmp_path / "a.db", story)
    assert busy == [0]


@pytest.mark.tpm
def test_a_head_that_goes_for_newer_ones_while_it_verifies_is_not_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tpm: Tpm, key: AttestationKey
) -> None:
    monkeypatch.setattr(spool_module, "HEADS_APART", 10)

    async def story(kept: Kept) -> None:
        for count in (10, 10, 10, 1, 1):
            await kept.note(count)
            kept.sign()
        counter = tpm.read_counter()

        def meanwhile() -> None:
            for _ in range(4):
                kept.sign()
            assert counter not in rows(kept.path, "SELECT counter FROM head")

        halfway(monkeypatch, meanwhile)
        assert verify_audit(kept.path, key, counter, kept.known) == (32, [])
        assert newest_counter(kept.path) == counter + 4

    told(tmp_path / "a.db", story, tpm)


def test_pruning_gives_the_journals_room_back(tmp_path: Path) -> None:
    async def story(kept: Kept) -> None:
        await kept.note(3000)
        prune(kept.path, Base(2990, b""))
        assert Path(f"{kept.path}-wal").stat().st_size == 0

    told(tmp_path / "a.db", story)
