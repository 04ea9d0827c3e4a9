"""Pruning by the control API: refused or on record, then done; the record is told to begin later."""

import asyncio
import json
import sqlite3
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock, Mock

import pytest

from gateway.api import reading
from gateway.api.audit_handlers import audit, audit_prune, audit_verify
from gateway.api.reading import Turns
from gateway.api.routes import Call
from gateway.audit.heads import SignedHead
from gateway.audit.recorder import Recorder
from gateway.audit.spool import AuditSpool
from gateway.audit.verify import RESTORED, Finding
from gateway.clock import SystemClock
from gateway.errors import GatewayError
from gateway.events.model import EventsLost


async def _kept(path: Path) -> Any:
    """Make a service with a record of twenty, ten of them signed."""
    spool = AuditSpool(path)
    recorder = Recorder(spool, SystemClock(), "lab/gateway", lambda: "rev")
    quote: Any = SimpleNamespace(attest=b"", signature=b"")
    for number in range(20):
        record = await recorder.record(EventsLost("x", number))
        if number == 9:
            spool.save_head(SignedHead(10, record.hash, 1, quote, 0))
    return SimpleNamespace(spool=spool, recorder=recorder, key=None)


def _call(service: Any, **body: object) -> Call:
    return Call(service, {}, cast(Any, body), "uid 0", Turns())


def test_what_is_pruned_is_on_record_and_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SignedHead, "signed_by", lambda *_: True)

    async def story() -> None:
        service = await _kept(tmp_path / "a.db")
        before = await audit(_call(service))
        assert before["base"]["sequence"] == 0
        signed = json.loads(before["signed"])
        answer = await audit_prune(_call(service, through=10, hash=signed["hash"]))
        assert answer["through"] == 10
        assert (await audit(_call(service)))["base"] == {"sequence": 10, "hash": signed["hash"]}
        left = service.spool.read(0)
        assert [one["metadata"]["sequence"] for one in left] == list(range(11, 22))
        said = left[-1]["unmapped"]
        assert (said["through"], said["hash"], said["actor"]) == (10, signed["hash"], "uid 0")
        service.spool.close()

    asyncio.run(story())


def _rows(path: Path, *statements: str) -> list[Any]:
    with sqlite3.connect(path) as database:
        found = [database.execute(one).fetchone() for one in statements]
    database.close()
    return found


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ({"through": 10, "hash": "00" * 32}, "another hash"),
        ({"through": True, "hash": "00"}, "must be a record's number"),
        ({"through": 10, "hash": "xy"}, "`hash`: expected 64 hex digits, got 'xy'"),
        ({"through": 15, "hash": "right"}, "no head that .* covers record 15"),
        ({"hash": "00"}, "must be a record's number"),
    ],
)
def test_rejects_to_prune_and_records_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: dict[str, object], why: str
) -> None:
    monkeypatch.setattr(SignedHead, "signed_by", lambda *_: True)

    async def story() -> None:
        service = await _kept(tmp_path / "a.db")
        if body["hash"] == "right":
            ((digest,),) = _rows(tmp_path / "a.db", "SELECT hash FROM record WHERE sequence = 15")
            body["hash"] = digest.hex()
        with pytest.raises(GatewayError, match=why):
            await audit_prune(_call(service, **body))
        assert len(service.spool.read(0)) == 20
        service.spool.close()

    asyncio.run(story())


FULL_DISK = "BEGIN SELECT RAISE(FAIL, 'database or disk is full'); END"


@pytest.mark.parametrize(
    ("damage", "told"),
    [("DROP TABLE head", "can't be read: no such table"),
     (f"CREATE TRIGGER full BEFORE DELETE ON record {FULL_DISK}", "can't be written: database or disk is full")],
)  # fmt: skip
def test_who_asks_is_told_what_is_wrong_with_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str, told: str
) -> None:
    """Not that the gateway does not answer, which is what an error that nobody knows looks like."""
    monkeypatch.setattr(SignedHead, "signed_by", lambda *_: True)

    async def story() -> None:
        service = await _kept(tmp_path / "a.db")
        ((digest,), _) = _rows(tmp_path / "a.db", "SELECT hash FROM record WHERE sequence = 10", damage)
        with pytest.raises(GatewayError, match=told) as caught:
            await audit_prune(_call(service, through=10, hash=digest.hex()))
        assert caught.value.code == "audit-failed"
        service.spool.close()

    asyncio.run(story())


@pytest.mark.parametrize(("counters", "intact"), [([5, 6, 6], True), ([5, 5], False)])
def test_a_head_that_is_signed_meanwhile_is_no_restored_copy(
    monkeypatch: pytest.MonkeyPatch, counters: list[int], intact: bool
) -> None:
    """The counter is read before the record, so a head may be newer than it; a copy stays a copy."""

    async def verified(work: Any) -> tuple[int, list[Finding]]:
        behind = work.args[2] < 6
        return 9, [Finding(RESTORED, "an older copy was restored")] if behind else []

    monkeypatch.setattr(reading, "verify", verified)
    service = Mock(recorder=AsyncMock(), tpm=Mock(read_counter=AsyncMock(side_effect=counters)))
    assert asyncio.run(audit_verify(_call(service)))["intact"] is intact


@pytest.mark.parametrize(
    "head",
    [
        {"source": "web", "sequence": -1, "hash": "00" * 32},
        {"source": "web", "sequence": True, "hash": "00" * 32},
        {"source": "web", "sequence": 1 << 63, "hash": "00" * 32},
        {"source": "web", "sequence": 3, "hash": ""},
        {"source": "web", "sequence": 3, "hash": "00" * 31 + " 0"},
        {"source": 7, "sequence": 3, "hash": "00" * 32},
        {"source": "web", "sequence": 3, "hash": 10**63},
        {"sequence": 3},
        7,
    ],
)
def test_rejects_a_witness_that_nothing_could_contradict(head: object) -> None:
    """It would be counted among those who say that the record is intact."""
    with pytest.raises(GatewayError) as refused:
        asyncio.run(audit_verify(_call(Mock(), known_heads=[head])))
    assert refused.value.code == "malformed-request"
    assert "Python" not in refused.value.message and "object is not" not in refused.value.message
