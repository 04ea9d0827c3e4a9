"""What an inspector reports is checked before it is believed or written."""

import json
from typing import Any

import pytest

from gateway.events.model import ContentFound, MaterialTaken
from gateway.inspection.report import MAX_TEXT, Confined, Taken, parse_report
from tests.fuzz import seeds


def good() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(seeds.inspector_reports()[0])["finding"]
    return found


def parsed(finding: dict[str, Any]) -> ContentFound:
    event = parse_report({"finding": finding})
    assert isinstance(event, ContentFound)
    return event


def test_takes_a_report() -> None:
    event = parsed(good())
    assert (event.reason, event.check, event.offset) == ("data-leak", "secrets.github-token", 812)


def test_long_texts_are_cut() -> None:
    assert len(parsed({**good(), "evidence": "x" * 100_000}).evidence) == MAX_TEXT


@pytest.mark.parametrize(
    "change",
    [
        {"source_ip": "not an address"},
        {"source_ip": "fe80::1"},
        {"source_port": 65536},
        {"destination_port": -1},
        {"destination_port": True},
        {"offset": 1 << 63},
        {"offset": 1.5},
        {"reason": "because"},
        {"check": None},
        {"evidence": ["x"]},
    ],
)
def test_refuses_a_lying_inspector(change: dict[str, object]) -> None:
    with pytest.raises((TypeError, ValueError)):
        parse_report({"finding": {**good(), **change}})


@pytest.mark.parametrize(
    "message",
    [
        [1],
        {},
        {"finding": 1},
        {"material": {"files": [1], "bad": [], "notes": []}},
        {"material": {"files": [], "bad": [1], "notes": []}},
    ],
)
def test_refuses_what_is_no_message(message: object) -> None:
    with pytest.raises((TypeError, ValueError)):
        parse_report(message)


def test_takes_what_an_inspector_says_of_itself() -> None:
    bad = [{"name": "b.yar", "problem": "no rule", "kept": True}]
    assert parse_report({"material": {"files": ["a"], "bad": bad, "notes": ["n"]}}) == MaterialTaken(
        ("a",), ("b.yar: no rule; its former content stays in use",), ("n",)
    )
    assert parse_report({"confined": ["seccomp"]}) == Confined(("seccomp",))
    assert parse_report({"taken": 1}) == Taken(1)
