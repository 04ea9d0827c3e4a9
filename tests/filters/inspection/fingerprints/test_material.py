"""Sets among the operator's files: one, tried alone, its former content kept when a new one is broken."""

from filters.inspection.fingerprints.set_file import encode
from filters.inspection.material import Material, SourceFile, sift
from filters.inspection.spec import InspectionSpec
from filters.inspection.toolbox import Toolbox
from tests.filters.inspection.fingerprints.documents import print_set, prose

SPEC = InspectionSpec(frozenset({"fingerprints", "patterns"}))
PATTERNS = SourceFile("mine.toml", b'[[pattern]]\nid = "project"\nexpression = "Project [A-Z]{6}"\n')
SET = SourceFile("documents.qgp", encode(print_set({"plan": prose(1)})))


def checks(material: Material, data: bytes) -> list[str]:
    return [one.check for one in Toolbox(material).judge(SPEC).text(data, "x")]


def test_a_set_is_used_beside_patterns() -> None:
    material = sift([SET, PATTERNS], Material())
    assert material.bad == ()
    assert checks(material, prose(1) + b" Project ZEPHYR ") == ["fingerprints.plan", "patterns.project"]
    assert Toolbox(material).lacking(SPEC) == frozenset()


def test_a_broken_set_takes_nothing_down_and_its_former_content_stays() -> None:
    broken = SourceFile(SET.name, SET.data[:-1])
    first = sift([broken, PATTERNS], Material())
    assert [(one.name, one.kept) for one in first.bad] == [(SET.name, False)]
    assert "checksum" in first.bad[0].problem
    assert checks(first, prose(1) + b" Project ZEPHYR ") == ["patterns.project"]
    second = sift([broken, PATTERNS], sift([SET, PATTERNS], Material()))
    assert [(one.name, one.kept) for one in second.bad] == [(SET.name, True)]
    assert checks(second, prose(1)) == ["fingerprints.plan"]


def test_a_second_set_is_refused_with_advice() -> None:
    other = SourceFile("other.qgp", encode(print_set({"budget": prose(2)})))
    material = sift([SET, other], Material())
    assert [one.name for one in material.files] == ["documents.qgp"]
    assert "documents.qgp is in use" in material.bad[0].problem


def test_a_second_set_never_displaces_the_one_in_use_whatever_its_name() -> None:
    """Its documents would pass, and nobody would be told."""
    earlier = SourceFile("a.qgp", encode(print_set({"budget": prose(2)})))
    material = sift([earlier, SET], sift([SET], Material()))
    assert material.files == (SET,)
    assert [(one.name, one.kept) for one in material.bad] == [("a.qgp", False)]
    assert checks(material, prose(1)) == ["fingerprints.plan"]


def test_a_rule_that_asks_for_documents_lacks_them_without_a_set_or_with_an_empty_one() -> None:
    assert "fingerprints" in Toolbox().lacking(SPEC)
    only_common = encode(print_set({}, {"letterhead": prose(3)}))
    for empty in (encode(print_set({})), only_common):
        assert "fingerprints" in Toolbox(Material((SourceFile("x.qgp", empty),))).lacking(SPEC)
