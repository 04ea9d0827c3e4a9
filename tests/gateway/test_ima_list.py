"""The kernel's list of measured files, as an agent reads it."""

from pathlib import Path

import pytest

from authn.errors import AuthnError
from authn.fields import MAX_BODY, FrameType
from authn.ima import MAX_AHEAD, MAX_LIST
from gateway.agent.ima_list import ImaList


def test_each_byte_is_sent_once_and_a_handshake_begins_anew(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(b"one")
    found = ImaList(path)
    assert (found.whole(), found.more()) == (b"one", b"")
    path.write_bytes(b"one, two")
    assert (found.more(), found.more(), found.whole()) == (b", two", b"", b"one, two")


def test_rejects_to_send_a_part_of_what_a_quote_is_about(tmp_path: Path) -> None:
    """The gateway would take it for a list that was altered; a new handshake takes it whole."""
    path = tmp_path / "list"
    path.write_bytes(b"")
    found = ImaList(path)
    found.whole()
    path.write_bytes(bytes(MAX_AHEAD + 1))
    with pytest.raises(
        AuthnError, match=f"expected at most {MAX_AHEAD} bytes at once, got more; it is sent whole"
    ):
        found.more()
    assert len(found.whole()) == MAX_AHEAD + 1
    assert found.more() == b""


def test_the_longest_piece_fits_into_a_record() -> None:
    assert MAX_BODY[FrameType.RECORD] > MAX_AHEAD + 4096 + 1024


def test_rejects_list_that_no_gateway_takes(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_bytes(bytes(MAX_LIST + 1))
    with pytest.raises(
        AuthnError, match=r"list: reading the measured files: expected .*; restart this machine"
    ):
        ImaList(path).whole()


def test_a_machine_without_a_list_sends_none() -> None:
    assert (ImaList(None).whole(), ImaList(None).more()) == (b"", b"")
