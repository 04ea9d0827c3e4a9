"""Events for an operator: those of one peer, one kind, one reason, the newest; nothing asked for is missed."""

import argparse
import json
from pathlib import Path
from typing import Any

import pytest

from gateway.cli import events
from gateway.cli.parser import build_parser
from gateway.errors import GatewayError


def record(number: int, code: str, **facts: object) -> dict[str, Any]:
    return {
        "time": number,
        "metadata": {"sequence": number, "event_code": code},
        "message": code,
        "unmapped": facts,
    }


RECORD = [
    record(1, "peer-state-changed", peer="web", reason="pcr-mismatch"),
    record(2, "flow-dropped", source_ip="10.0.0.2", destination_ip="10.0.0.3", reason="no-rule"),
    record(3, "flow-dropped", source_ip="10.0.0.3", destination_ip="10.0.0.4", reason="no-rule"),
    record(4, "session-granted", source="db", destination="web"),
    record(5, "authority-changed", outcome="granted"),
    record(6, "attestation-failed", peer="db", ip="10.0.0.3", reason="wrong-ak"),
]
PEERS = {"web": "10.0.0.2", "db": "10.0.0.3"}


class Api:
    """A gateway with this record, which gives it out by two."""

    def get(self, path: str) -> dict[str, Any]:
        if path == "/v1/peers":
            return {"peers": [{"name": name, "ip": ip} for name, ip in PEERS.items()]}
        if path == "/v1/status":
            return {"audit": {"sequence": len(RECORD)}}
        after = int(path.partition("after=")[2].partition("&")[0])
        return {"events": [one for one in RECORD if one["metadata"]["sequence"] > after][:2]}


def words(*options: str) -> argparse.Namespace:
    return build_parser().parse_args(["events", *options])


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ((), [1, 2, 3, 4, 5, 6]),
        (("--after", "4"), [5, 6]),
        (("--last", "2"), [5, 6]),
        (("--last", "0"), []),
        (("--last", "100"), [1, 2, 3, 4, 5, 6]),
        (("--last", "4", "--after", "3"), [4, 5, 6]),
        (("--peer", "web"), [1, 2, 4]),
        (("--peer", "db"), [2, 3, 4, 6]),
        (("--kind", "flow-dropped"), [2, 3]),
        (("--kind", "flow-dropped", "--peer", "web", "--reason", "no-rule"), [2]),
        (("--reason", "wrong-ak"), [6]),
        (("--reason", "of-a-kind-of-its-own"), []),
    ],
)
def test_prints_what_was_asked_for(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    options: tuple[str, ...],
    numbers: list[int],
) -> None:
    monkeypatch.setattr(events, "client", lambda _: Api())
    assert events.events(words("--json", *options)) == 0
    found = [json.loads(line)["metadata"]["sequence"] for line in capsys.readouterr().out.splitlines()]
    assert found == numbers


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--kind", "flow-droped"), "unknown-event", "did you mean flow-dropped?"),
        (("--peer", "wbe"), "unknown-peer", "known are web, db"),
        (("--last", "-1"), "bad-count", "expected 0 or more"),
    ],
)
def test_rejects_a_word_for_which_nothing_would_ever_come(
    monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: str, said: str
) -> None:
    monkeypatch.setattr(events, "client", lambda _: Api())
    with pytest.raises(GatewayError, match=said.replace("?", "[?]")) as refused:
        events.events(words("--follow", *options))
    assert refused.value.code == code


def test_every_kind_of_the_document_is_known() -> None:
    text = Path("docs/events.md").read_text()
    assert all(f"| `{kind}` |" in text for kind in events.known_kinds())
    assert len(events.known_kinds()) == text.count("\n| `")


@pytest.mark.parametrize(
    ("reason", "hint"), [("no-rul", "did you mean no-rule?"), ("disconnected", ""), ("no-rule", "")]
)
def test_a_reason_that_may_be_misspelt_is_told_and_looked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], reason: str, hint: str
) -> None:
    monkeypatch.setattr(events, "client", lambda _: Api())
    assert events.events(words("--reason", reason)) == 0
    assert hint in capsys.readouterr().err
