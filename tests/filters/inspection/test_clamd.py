"""A real clamd as second engine; what it can't say is a finding as well."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from filters.inspection.objects.clamd import Clamd, judge_answer
from filters.inspection.spec import InspectionSpec
from filters.inspection.toolbox import Toolbox
from filters.reason import DropReason
from tests.filters.inspection.clamd import BAD, clamd
from tests.filters.inspection.test_objects import zipped


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with clamd(tmp_path_factory.mktemp("clamd")) as one:
        yield one


def test_a_real_clamd_says_what_it_finds(path: Path) -> None:
    judge = Toolbox(clamd=path).judge(InspectionSpec(frozenset({"clamd"})))
    assert judge.judge(b"nothing", "object") == []
    (one,) = judge.judge(BAD, "object")
    assert (one.reason, one.check) == (DropReason.MALWARE, "clamd.Own.Test.UNOFFICIAL")
    inside = judge.judge(zipped({"a": b"x" + BAD}), "object")
    assert {one.check for one in inside} == {"clamd.Own.Test.UNOFFICIAL"}


def test_it_is_asked_only_where_a_rule_says_so(path: Path) -> None:
    assert Toolbox(clamd=path).judge(InspectionSpec()).judge(BAD, "object") == []


def test_what_is_too_large_for_it_is_a_limit(path: Path) -> None:
    (one,) = Clamd(path)(bytes(3 << 20), 10)
    assert one.reason == DropReason.RESOURCE_LIMIT
    assert "StreamMaxLength" in one.detail


def test_away_is_inspector_down(tmp_path: Path) -> None:
    (one,) = Clamd(tmp_path / "nobody")(b"x", 1)
    assert (one.reason, one.check) == (DropReason.INSPECTOR_DOWN, "clamd")


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        (b"", DropReason.INSPECTOR_DOWN),
        (b"nonsense\0", DropReason.INSPECTOR_DOWN),
        (None, DropReason.INSPECTOR_TIMEOUT),
    ],
)
def test_one_that_misbehaves_lets_nothing_pass(
    tmp_path: Path, says: bytes | None, reason: DropReason
) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "clamd"))
        server.listen(1)

        def serve() -> None:
            client, _ = server.accept()
            with client:
                client.recv(1 << 16)
                if says is None:
                    over.wait(10)
                else:
                    client.sendall(says)

        over = threading.Event()
        thread = threading.Thread(target=serve)
        thread.start()
        (one,) = Clamd(tmp_path / "clamd")(b"x", 0.3)
        over.set()
        thread.join(10)
    assert one.reason == reason


def test_reads_its_answers() -> None:
    assert judge_answer(b"stream: OK\0") == []
    assert judge_answer(b"stream: A.B FOUND\0")[0].check == "clamd.A.B"
