"""The monitor's log: whatever guests say is one harmless line, and a log that can't be written ends nothing."""

import contextlib
import io
import sys
from pathlib import Path

import pytest

from vmhost.log import say


@pytest.mark.parametrize(
    ("said", "written"),
    [
        ("VM web is off", "VM web is off"),
        ("two\nlines\x1b[2J", "two\\nlines\\x1b[2J"),
        ("half \ud800 of a pair, 中", "half \\ud800 of a pair, 中"),
    ],
)
def test_writes_one_printable_line(capsys: pytest.CaptureFixture[str], said: str, written: str) -> None:
    say(said)
    assert capsys.readouterr().out == f"monitor: {written}\n"


def test_survives_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    full = Path("/dev/full").open("w")  # noqa: SIM115 - closing it fails too
    monkeypatch.setattr(sys, "stdout", full)
    say("nobody will read this")
    with contextlib.suppress(OSError):
        full.close()


def test_survives_a_log_that_was_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    say("nor this")
