"""`quotegate fingerprint` as a person types it, and what `quotegate inspect` makes of it."""

import json
import subprocess
from pathlib import Path

import pytest

from filters.errors import FiltersError
from gateway.cli.parser import build_parser
from gateway.errors import GatewayError
from tests.filters.inspection.drive import answer
from tests.filters.inspection.fingerprints.documents import docx, prose
from tests.filters.inspection.test_objects import zipped
from tests.filters.inspection.test_offline import connection, down, pcap
from tests.gateway.cli.test_parser import QUOTEGATE

PLAN = prose(1)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Plan A.txt").write_bytes(PLAN)
    (tmp_path / "letter.docx").write_bytes(docx(prose(2)))
    (tmp_path / "head.txt").write_bytes(prose(3))
    return tmp_path


def run(*words: object) -> int:
    arguments = build_parser().parse_args([*map(str, words)])
    return int(arguments.run(arguments))


def test_documents_are_added_listed_recognised_and_removed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("fingerprint", "add", "Plan A.txt", "letter.docx") == 0
    said = capsys.readouterr().out
    assert "plan-a.txt: " in said
    assert "any 512 bytes in a row are recognised" in said
    assert (folder / "fingerprints.qgp").stat().st_mode & 0o777 == 0o600
    assert run("fingerprint", "list", "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(one["name"], one["bytes"], one["common"]) for one in rows] == [
        ("plan-a.txt", len(PLAN), "no"),
        ("letter.docx", len(docx(prose(2))), "no"),
    ]
    (folder / "out.zip").write_bytes(zipped({"x": PLAN[2000:2600]}))
    assert run("inspect", "--file", "out.zip", "--fingerprints", folder, "--check") == 4
    assert "fingerprints.plan-a.txt" in capsys.readouterr().out
    assert run("fingerprint", "remove", "plan-a.txt") == 0
    assert run("inspect", "--file", "out.zip", "--fingerprints", "fingerprints.qgp", "--check") == 0


def test_a_document_in_a_capture_is_told_without_its_content(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("fingerprint", "add", "letter.docx", "--name", "letter", "--set", "my.set")
    stolen = prose(2)[1000:2000]
    said = answer(stolen)
    (folder / "x.pcap").write_bytes(pcap(connection(down(500, said[:300]), down(800, said[300:]))))
    capsys.readouterr()
    assert run("inspect", "x.pcap", "--fingerprints", "my.set", "--check", "--json") == 4
    told = capsys.readouterr().out
    first = json.loads(told.splitlines()[0])
    assert (first["check"], first["reason"]) == ("fingerprints.letter", "data-leak")
    assert not any(word in told for word in stolen.decode().split() if len(word) > 6)


def test_what_is_common_implicates_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "plan.txt").write_bytes(prose(3) + PLAN)
    run("fingerprint", "add", "plan.txt")
    assert run("inspect", "--file", "head.txt", "--fingerprints", ".", "--check") == 4
    run("fingerprint", "add", "head.txt", "--common")
    assert "implicates no document" in capsys.readouterr().out
    assert run("inspect", "--file", "head.txt", "--fingerprints", ".", "--check") == 0
    assert run("inspect", "--file", "plan.txt", "--fingerprints", ".", "--check") == 4


def test_says_how_little_of_a_dull_document_is_recognised(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "half.txt").write_bytes(PLAN + b"-" * 6000)
    (folder / "short.txt").write_bytes(PLAN[:300])
    run("fingerprint", "add", "half.txt", "short.txt")
    half, short = capsys.readouterr().out.splitlines()
    assert " % of its runs" in half
    assert "only as a whole" in short


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("add", "nowhere"), "nowhere: No such file"),
        (("add", "head.txt", "letter.docx", "--name", "x"), "one file"),
        (("add", "head.txt", "--name", "Über"), "name of 1 to 64"),
        (("add", "head.txt", "head.txt"), "head.txt: the set has a document 'head.txt' already"),
        (("add", "head.txt", "empty"), "empty: .*at least 4 fragments.*nothing was added"),
        (("add", "机密"), "name of 1 to 64"),
        (("add", "bomb.zip"), "bomb.zip: ratio.*unpack it"),
        (("add", "head.txt", "--set", "no/where"), "No such file"),
        (("add", "head.txt", "--set", "letter.docx"), "letter.docx: expected a file that"),
        (("list",), "fingerprints.qgp: No such file"),
        (("remove", "x"), "fingerprints.qgp: No such file"),
    ],
)
def test_rejects_bad_words_with_advice(folder: Path, words: tuple[str, ...], says: str) -> None:
    (folder / "empty").write_bytes(b"")
    (folder / "机密").write_bytes(PLAN)
    (folder / "bomb.zip").write_bytes(zipped({"zeros": bytes(40 << 20)}))
    with pytest.raises((GatewayError, FiltersError), match=says):
        run("fingerprint", *words)
    assert not (folder / "fingerprints.qgp").exists()


def test_rejects_the_detector_without_a_set(folder: Path) -> None:
    with pytest.raises(GatewayError, match="--fingerprints"):
        run("inspect", "--file", "head.txt", "--detectors", "fingerprints")


def test_an_error_is_one_line(folder: Path) -> None:
    done = subprocess.run(
        [QUOTEGATE, "inspect", "--file", "head.txt", "--fingerprints", "head.txt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "fingerprint add" in done.stderr
