"""What an inspector reports is checked before it is believed or written."""

import json
from typing import Any

import pytest

from gateway.inspection.report import MAX_TEXT, parse_report
from tests.fuzz import seeds


def good() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(seeds.inspector_reports()[0])
    return found


def test_takes_a_report() -> None:
    event = parse_report(good())
    assert (event.reason, event.check, event.offset) == ("data-leak", "secrets.github-token", 812)


def test_long_texts_are_cut() -> None:
    assert len(parse_report({**good(), "evidence": "x" * 100_000}).evidence) == MAX_TEXT


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
        parse_report({**good(), **change})


def test_refuses_what_is_no_object() -> None:
    with pytest.raises(TypeError):
        parse_report([1])
