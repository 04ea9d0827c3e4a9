"""Operator's files: a broken one is left out by name, and never takes down what is good."""

from pathlib import Path

import pytest

from filters.inspection.directory import read_directory, signature
from filters.inspection.material import Material, SourceFile, sift
from filters.inspection.spec import InspectionSpec
from filters.inspection.toolbox import Toolbox

GOOD = SourceFile("own.toml", b'[[pattern]]\nid = "p"\nexpression = "Project [A-Z]{6}"\n')
MARKS = SourceFile("marks.toml", '[[mark]]\nid = "m"\nwords = ["机密"]\n'.encode())
RULE = SourceFile("own.yar", b'rule own { strings: $a = "own malware" condition: $a }')


def found(toolbox: Toolbox, data: bytes, *detectors: str) -> list[str]:
    judge = toolbox.judge(InspectionSpec(frozenset(detectors)))
    return [one.check for one in (*judge.judge(data, "object"), *judge.text(data, "object"))]


def test_good_files_are_used() -> None:
    toolbox = Toolbox(sift([GOOD, MARKS, RULE], Material()))
    assert not toolbox.material.bad
    assert found(toolbox, b"own malware", "malware") == ["yara.own"]
    assert found(toolbox, b"Project ABCDEF", "patterns") == ["patterns.p"]
    assert found(toolbox, "机密".encode("gb18030"), "marks") == ["marks.m.4"]
    assert found(toolbox, b"Project ABCDEF own malware", "marks", "personal") == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (SourceFile("bad.toml", b"[[pattern"), "bad.toml"),
        (SourceFile("bad.toml", b'[[pattern]]\nid = "b"\nexpression = "("\n'), "b: "),
        (SourceFile("bad.toml", GOOD.data), "patterns.p: two patterns have this id"),
        (SourceFile("bad.toml", b"\xff\xfe"), "bad.toml"),
        (SourceFile("bad.yar", b"rule x { condition: nonsense }"), "nonsense"),
        (SourceFile("bad.doc", b"x"), "expected a name ending in .toml, .yar"),
    ],
)
def test_a_broken_file_takes_nothing_down(bad: SourceFile, words: str) -> None:
    material = sift([GOOD, RULE, bad], Material())
    assert material.files == (GOOD, RULE)
    assert [(one.name, one.kept) for one in material.bad] == [(bad.name, False)]
    assert words in material.bad[0].problem
    assert found(Toolbox(material), b"Project ABCDEF", "patterns") == ["patterns.p"]


def test_what_broke_keeps_its_former_content() -> None:
    before = sift([GOOD, RULE], Material())
    after = sift([SourceFile("own.toml", b"[["), RULE], before)
    assert after.files == before.files
    assert [one.kept for one in after.bad] == [True]


def named(file: str, name: str, expression: str = "Project [A-Z]{6}") -> SourceFile:
    return SourceFile(file, f"[[pattern]]\nid = '{name}'\nexpression = '{expression}'\n".encode())


def test_a_new_file_that_does_not_go_with_those_in_use_takes_nothing_down() -> None:
    """Whatever its name: an id that another file has, and a second set of fingerprints."""
    before = sift([named("m.toml", "x")], Material())
    for name in ("a.toml", "z.toml"):
        after = sift(sorted((named(name, "x", "Other"), *before.files), key=lambda one: one.name), before)
        assert after.files == before.files
        assert [(one.name, one.problem) for one in after.bad] == [
            (name, "patterns.x: two patterns have this id")
        ]
        assert found(Toolbox(after), b"Project ABCDEF", "patterns") == ["patterns.x"]


def test_the_former_content_of_a_broken_file_goes_together_with_what_is_new() -> None:
    before = sift([named("a.toml", "y"), named("b.toml", "x")], Material())
    after = sift([named("a.toml", "x"), named("b.toml", "z", "(")], before)
    assert after.files == before.files
    assert [(one.name, one.kept) for one in after.bad] == [("a.toml", True), ("b.toml", True)]
    assert found(Toolbox(after), b"Project ABCDEF", "patterns") == ["patterns.y", "patterns.x"]


def test_files_that_change_together_may_give_each_other_an_id() -> None:
    before = sift([named("a.toml", "y"), named("b.toml", "x")], Material())
    swapped = [named("a.toml", "x"), named("b.toml", "y")]
    after = sift(swapped, before)
    assert (list(after.files), after.bad) == (swapped, ())


def test_says_of_an_expression_what_is_wrong_in_plain_words() -> None:
    assert [one.problem for one in sift([named("a.toml", "x", "(")], Material()).bad] == ["x: missing ): ("]


def test_what_is_removed_is_gone() -> None:
    assert sift([RULE], sift([GOOD, RULE], Material())).files == (RULE,)


def test_tells_which_detector_has_nothing_to_look_for() -> None:
    spec = InspectionSpec(frozenset({"secrets", "patterns", "marks"}))
    assert Toolbox().lacking(InspectionSpec(frozenset({"clamd"}))) == {"clamd"}
    assert Toolbox().lacking(spec) == {"patterns", "marks"}
    assert Toolbox(sift([GOOD], Material())).lacking(spec) == {"marks"}
    assert Toolbox(sift([GOOD, MARKS], Material())).lacking(spec) == frozenset()


def test_reads_a_directory_and_sees_changes(tmp_path: Path) -> None:
    (tmp_path / "own.toml").write_bytes(GOOD.data)
    (tmp_path / ".hidden.toml").write_bytes(b"x")
    (tmp_path / "folder.yar").mkdir()
    before = signature(tmp_path)
    assert read_directory(tmp_path) == [GOOD]
    (tmp_path / "own.toml").write_bytes(GOOD.data + b"\n")
    assert signature(tmp_path) != before


def test_suricata_rules_are_material_and_what_is_not_in_force_is_said() -> None:
    good = 'alert tcp any any -> any any (msg:"own"; content:"own words"; sid:1;)\n'
    unsupported = 'alert tcp any any -> any any (msg:"x"; content:"y"; byte_jump:1,0; sid:2;)\n'
    toolbox = Toolbox(sift([SourceFile("own.rules", (good + unsupported).encode())], Material()))
    assert not toolbox.lacking(InspectionSpec(frozenset({"rules"})))
    (note,) = toolbox.notes
    assert "1 of 2 Suricata rules are not in force" in note
    assert "byte_jump 1" in note
    bad = sift([SourceFile("bad.rules", unsupported.encode())], Material())
    assert not bad.files
    assert "none of its rules can be used" in bad.bad[0].problem


@pytest.mark.parametrize(
    "bad",
    [
        SourceFile("bad.rules", b'alert tcp any any -> any any (content:"%b"; sid:1;)' % (b"a" * 4001)),
        SourceFile("bad.toml", b'[[mark]]\nid = "b"\nwords = ["%b"]' % (b"a" * 4001)),
        SourceFile(
            "bad.toml", b'[[pattern]]\nid = "b"\nexpression = "x"\nkeywords = ["%b"]' % (b"x" * 17_000)
        ),
    ],
    ids=["content", "mark", "keyword"],
)
def test_rejects_a_file_with_a_longer_word_than_the_engine_takes(bad: SourceFile) -> None:
    found = sift([GOOD, bad], Material())
    assert found.files == (GOOD,)
    assert [one.name for one in found.bad] == [bad.name]


def test_a_file_that_is_too_large_takes_no_other_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("directory", "material"):
        monkeypatch.setattr(f"filters.inspection.{module}.LARGEST", len(GOOD.data))
    (tmp_path / "large.toml").write_bytes(bytes(1000))
    (tmp_path / "own.toml").write_bytes(GOOD.data)
    found = sift(read_directory(tmp_path), Material())
    assert found.files == (GOOD,)
    assert [(one.name, one.kept) for one in found.bad] == [("large.toml", False)]
    assert "expected at most" in found.bad[0].problem
