"""What is kept for outsiders: whole or not at all, and nobody's session depends on the disk."""

import asyncio
import json
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from gateway.audit.spool import START_ROOM
from gateway.evidence import keeper
from gateway.evidence.keeper import EvidenceKeeper, Kept


def keep(evidence: EvidenceKeeper, monkeypatch: pytest.MonkeyPatch, bundle: dict[str, Any]) -> None:
    monkeypatch.setattr(keeper, "EvidenceBundle", lambda **_: Mock(to_json=lambda: bundle))
    asyncio.run(evidence.keep(Mock(peer="web"), Mock(), Mock(th2=bytes(32)), 1.0, None))


def test_evidence_leaves_the_room_that_a_start_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A peer whose log is large could take what the audit record keeps free, and nobody could help the gateway any more."""
    room = START_ROOM + 1_000_000
    evidence = EvidenceKeeper(tmp_path / "evidence", "lab/gateway", Mock(), (), lambda _: room)
    keep(evidence, monkeypatch, {"log": "00" * 500_000})
    assert not list((tmp_path / "evidence").iterdir())
    assert "web-accepted.json: not written" in caplog.text
    keep(evidence, monkeypatch, {"log": "00" * 400_000})
    assert len(evidence.load("web", Kept.ACCEPTED)["log"]) == 800_000


def test_evidence_that_can_not_be_written_costs_nobody_its_session(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A peer that had just been let in was hung up on, in silence, and in the end restarted for its own."""
    evidence = EvidenceKeeper(tmp_path / "evidence", "lab/gateway", Mock(), ())
    keep(evidence, monkeypatch, {"number": 1})

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(keeper.os, "fsync", full)
    keep(evidence, monkeypatch, {"number": 2})
    assert "web-accepted.json: not written" in caplog.text
    assert "No space left on device" in caplog.text
    assert [path.name for path in (tmp_path / "evidence").iterdir()] == ["web-accepted.json"]
    assert evidence.load("web", Kept.ACCEPTED) == {"number": 1}
    assert json.loads((tmp_path / "evidence" / "web-accepted.json").read_text()) == {"number": 1}
