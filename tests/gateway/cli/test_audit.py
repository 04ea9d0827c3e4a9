"""An export has all that is signed, checks itself, and is what pruning goes by."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.audit.chain import GENESIS, record_hash
from gateway.cli import audit, operate
from gateway.cli.client import TIMEOUT_S, WHOLE_RECORD_S
from gateway.errors import GatewayError


class Api:
    """A gateway with a record of twelve, ten of them signed, given out by five; two were taken away before."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.waited: list[float] = []
        self.hashes, self.asked = [GENESIS], dict[str, Any]()
        for number in range(1, 13):
            event = {"unmapped": {"x": number / 10, "s": "ü\u001b"}, "metadata": {"sequence": number}}
            body = json.dumps(event, sort_keys=True, separators=(",", ":")).encode()
            self.hashes.append(record_hash(self.hashes[-1], number, body))
            self.events.append(event)
        self.signed: dict[str, Any] | None = {"sequence": 10, "hash": self.hashes[10].hex(), "counter": 3}

    def get(self, path: str) -> dict[str, Any]:
        if path == "/v1/audit":
            base = {"sequence": 2, "hash": self.hashes[2].hex()}
            return {"base": base, "signed": json.dumps(self.signed) if self.signed else None}
        after = int(path.rpartition("=")[2])
        found = [one for one in self.events if one["metadata"]["sequence"] > after]
        return {"events": found[:5]}

    def post(self, path: str, **body: object) -> dict[str, Any]:
        self.asked = {"path": path, **body}
        return {"through": body["through"], "room": 7 << 20}


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch) -> Api:
    api = Api()
    monkeypatch.setattr(audit, "client", lambda _, timeout=TIMEOUT_S: api.waited.append(timeout) or api)
    return api


def words(file: Path) -> argparse.Namespace:
    return argparse.Namespace(file=str(file), json=False, lab="lab")


def test_what_was_exported_is_pruned_by_its_own_hash(api: Api, tmp_path: Path) -> None:
    file = tmp_path / "record.jsonl"
    audit.export(words(file))
    lines = file.read_text().splitlines()
    assert [json.loads(one)["metadata"]["sequence"] for one in lines[1:-1]] == list(range(3, 11))
    assert file.stat().st_mode & 0o777 == 0o600
    audit.prune(words(file))
    assert api.asked == {"path": "/v1/audit/prune", "through": 10, "hash": api.hashes[10].hex()}
    assert api.waited == [TIMEOUT_S, WHOLE_RECORD_S]


@pytest.mark.parametrize(
    "damage",
    [
        lambda lines: [*lines[:3], lines[3].replace("0.", "1."), *lines[4:]],
        lambda lines: [*lines[:3], *lines[4:]],
        lambda lines: lines[:-1],
        lambda lines: [*lines, lines[1]],
        lambda lines: lines[1:],
        lambda lines: [],
        lambda lines: ["no JSON"],
    ],
)
def test_rejects_an_export_that_was_damaged(
    api: Api, tmp_path: Path, damage: Callable[[list[str]], list[str]]
) -> None:
    file = tmp_path / "record.jsonl"
    audit.export(words(file))
    file.write_text("\n".join(damage(file.read_text().splitlines())) + "\n")
    with pytest.raises(GatewayError) as refused:
        audit.prune(words(file))
    assert refused.value.code in ("broken-chain", "bad-export")
    assert api.asked == {}


def test_rejects_a_record_that_does_not_fit_its_signed_head(api: Api, tmp_path: Path) -> None:
    api.events[4]["unmapped"]["x"] = 7
    with pytest.raises(GatewayError, match="not what was signed"):
        audit.export(words(tmp_path / "record.jsonl"))


@pytest.mark.parametrize("missing", ["head", "records"])
def test_rejects_a_record_that_is_not_all_there_and_leaves_no_file(
    api: Api, tmp_path: Path, missing: str
) -> None:
    if missing == "head":
        api.signed = None
    else:
        del api.events[7:]
    with pytest.raises(GatewayError):
        audit.export(words(tmp_path / "record.jsonl"))
    assert not (tmp_path / "record.jsonl").exists()


def test_a_full_disk_leaves_no_half_of_an_export(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the next try would be refused, for a file is there."""

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(audit.os, "fsync", full)
        with pytest.raises(GatewayError, match="No space left"):
            audit.export(words(tmp_path / "record.jsonl"))
    audit.export(words(tmp_path / "record.jsonl"))


def test_an_export_that_is_interrupted_leaves_no_half_of_one(
    api: Api, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(audit.os, "fsync", interrupted)
        audit.export(words(tmp_path / "record.jsonl"))
    assert not (tmp_path / "record.jsonl").exists()


def test_rejects_to_write_over_a_file(api: Api, tmp_path: Path) -> None:
    (tmp_path / "record.jsonl").write_text("mine")
    with pytest.raises(GatewayError, match=r"record\.jsonl"):
        audit.export(words(tmp_path / "record.jsonl"))
    assert (tmp_path / "record.jsonl").read_text() == "mine"


def test_a_verification_is_waited_for_as_long_as_the_whole_record_takes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    waited: list[float] = []
    answer = {"findings": [], "intact": True, "records": 12, "witnesses": 0}

    def client(_: object, timeout: float) -> Any:
        waited.append(timeout)
        return SimpleNamespace(post=lambda *_, **__: answer)

    monkeypatch.setattr(operate, "client", client)
    assert operate.audit_verify(argparse.Namespace(json=False, head=[], lab="none-such")) == 0
    assert waited == [WHOLE_RECORD_S]


@pytest.mark.parametrize("text", ["not JSON", "[]", "1", "null", '{"sequence": 1}', "\udcff"])
def test_rejects_a_head_that_is_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / "head.json"
    file.write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(GatewayError, match=str(file)):
        operate.audit_verify(argparse.Namespace(head=[file], lab="lab", json=False))


def test_rejects_a_file_that_is_no_export_without_telling_what_is_in_it(tmp_path: Path) -> None:
    for content in (b"\x7fELF\xff", b"{}", b"[]", b""):
        file = tmp_path / "record.jsonl"
        file.write_bytes(content)
        with pytest.raises(GatewayError, match="is no export of an audit record: expected what"):
            audit.read_export(file)
