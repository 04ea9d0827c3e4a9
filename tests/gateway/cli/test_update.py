"""What `quotegate update` says and how it ends; the monitor is a stand-in."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import update
from gateway.cli.parser import build_parser
from gateway.errors import GatewayError

GOOD = {"state": "good", "version": 2, "tries_left": 0, "within_s": 0.0, "reason": ""}
BAD = {"state": "bad", "version": 3, "tries_left": 0, "within_s": 0.0, "reason": "quote: pcr-mismatch"}
EMPTY = {"state": "empty", "version": 0, "tries_left": 0, "within_s": 0.0, "reason": ""}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was asked, and `answer`: what is answered."""
    noted: dict[str, Any] = {}

    def ask(_lab: object, op: str, timeout_s: float = 30.0, **params: object) -> Any:
        noted.update(op=op, timeout_s=timeout_s, params=params)
        return noted["answer"]

    monkeypatch.setattr(update, "ask", ask)
    return noted


def run(*words: str) -> int:
    arguments = build_parser().parse_args(["update", *words])
    return int(arguments.run(arguments))


def test_a_blessed_update_ends_well(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    asked["answer"] = {"active": "b", "version": 2, "tried": 2, "least": 1, "slots": {"a": GOOD, "b": GOOD}}
    assert run("apply", "u", "--tries", "3", "--within", "2m") == 0
    assert asked["params"] == {"directory": str(Path("u").resolve()), "tries": 3, "within_s": 120}
    assert asked["timeout_s"] > 3 * 120
    assert "version 2 passed its self-test and is in force (slot b)" in capsys.readouterr().out


def test_one_that_fell_back_says_why_and_what_to_do(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked["answer"] = {"active": "b", "version": 2, "tried": 3, "least": 1, "slots": {"a": BAD, "b": GOOD}}
    assert run("apply", "u") == 3
    said = capsys.readouterr().out
    assert "version 3 failed; version 2 is in force as before" in said
    assert "pcr-mismatch" in said
    assert "mend the image" in said


def test_a_rollback_that_failed_says_that_the_way_back_is_kept(
    asked: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    kept = {**GOOD, "version": 1, "reason": "its line broke"}
    asked["answer"] = {"active": "b", "version": 2, "tried": 1, "least": 1, "slots": {"a": kept, "b": GOOD}}
    assert run("rollback") == 3
    said = capsys.readouterr().out
    assert "its line broke" in said
    assert "it is kept: quotegate update rollback" in said
    assert "newer version" not in said


def test_the_status_shows_both_slots(asked: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    asked["answer"] = {"active": "a", "version": 2, "least": 2, "slots": {"a": GOOD, "b": EMPTY}}
    assert run("status") == 0
    said = capsys.readouterr().out
    assert "a (in force)  good" in said
    assert "from version 2 on" in said
    assert run("status", "--json") == 0
    assert json.loads(capsys.readouterr().out) == asked["answer"]


def test_rejects_odd_time(asked: dict[str, Any]) -> None:
    with pytest.raises(GatewayError) as raised:
        run("rollback", "--within", "soon")
    assert raised.value.code == "bad-duration"
    assert "op" not in asked


@pytest.mark.parametrize("odd", [["--tries=-1"], ["--tries", "9" * 12], ["--within", "9000d"]])
def test_rejects_to_wait_for_what_no_clock_can_tell(asked: dict[str, Any], odd: list[str]) -> None:
    """The monitor refuses such numbers; a wait out of range read as a monitor that is away."""
    asked["answer"] = {"active": "b", "version": 2, "tried": 2, "least": 1, "slots": {}}
    assert run("rollback", *odd) == 0
    assert 600 <= asked["timeout_s"] <= 14 * 86_400
