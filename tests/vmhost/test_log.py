"""The monitor's log: whatever guests say is one harmless line, and a log that can't be written ends nothing."""

import contextlib
import io
import sys
from pathlib import Path

import pytest

from vmhost.log import harmless, keep_small, say, shown
from vmhost.process import MAX_LOG


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


def test_what_a_guest_said_is_shown_on_one_line() -> None:
    assert shown("two\nlines\x1b[2J \ud800") == "two\\nlines\\x1b[2J \\ud800"


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_what_a_guest_wrote_is_harmless_to_a_terminal_however_it_is_cut(size: int) -> None:
    wrote = "a\r\n\tb\x1b]0;x\x07\r中\u202e".encode() + b"\xff\r\r\n\xe4"
    pieces = [wrote[at : at + size] for at in range(0, len(wrote), size)]
    assert b"".join(harmless(pieces)).decode() == "a\n\tb\\x1b]0;x\\x07\\r中\\u202e\\xff\\r\n\\xe4"


def test_a_log_that_is_too_large_begins_anew_and_is_written_on(tmp_path: Path) -> None:
    log = tmp_path / "monitor.log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"x" * MAX_LOG)
        keep_small(log)
        assert log.stat().st_size == MAX_LOG  # not yet
        writer.write(b"last words\n")
        keep_small(log)
        writer.write(b"first words\n")
    assert log.read_bytes() == b"first words\n"
    old = (tmp_path / "monitor.old").read_bytes()
    assert (len(old), old[-11:]) == (MAX_LOG, b"last words\n")


def test_a_log_is_cut_also_where_no_copy_fits(tmp_path: Path) -> None:
    log = tmp_path / "monitor.log"
    log.write_bytes(b"x" * (MAX_LOG + 1))
    (tmp_path / "monitor.old").mkdir()
    keep_small(log)
    assert log.stat().st_size == 0


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
