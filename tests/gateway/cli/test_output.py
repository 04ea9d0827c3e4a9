"""Answers on a terminal: what guests named does not act on it."""

import json

import pytest

from gateway.cli.events import event_line
from gateway.cli.output import complain, say, show_json, table

EVIL = "evil\x1b[2J\rtrusted\nweb  trusted"


def test_rejects_what_acts_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"one\n{EVIL}")
    complain(f"quotegate: bad: {EVIL}")
    for text in capsys.readouterr():
        assert "\x1b" not in text
        assert "\r" not in text
        assert "evil\\u001b[2J\\u000dtrusted\n" in text


def test_rejects_a_row_that_makes_another_row() -> None:
    lines = table([{"name": EVIL, "state": "failed"}], ["name", "state"]).splitlines()
    assert len(lines) == 2
    assert lines[1].endswith("web  trusted  failed")


def test_rejects_an_event_that_writes_another_event() -> None:
    event = {"time": 1, "metadata": {"sequence": 7}, "message": f"attestation-failed: detail={EVIL}"}
    line = event_line(event)
    assert line.isprintable()
    assert "evil\\u001b[2J\\u000dtrusted\\u000aweb" in line


def test_json_stays_json(capsys: pytest.CaptureFixture[str]) -> None:
    data = {"name": f"{EVIL}\x7f\x9b"}
    show_json(data)
    assert json.loads(capsys.readouterr().out) == data
