"""The models of handshake, beacons and leases: what is promised holds in every state, and each rule is needed."""

import shutil

import pytest

from tests.model.spin import (
    COUNTEREXAMPLES,
    MODELS,
    SpinError,
    check,
    list_properties,
    list_switches,
    list_witnesses,
)

pytestmark = pytest.mark.skipif(
    not shutil.which("spin"), reason="spin is not installed (apt-get install spin)"
)


@pytest.mark.parametrize("model", MODELS)
def test_every_property_holds_and_the_model_does_its_work(model: str) -> None:
    promised, work = list_properties(model), list_witnesses(model)
    assert len(promised) > 2
    assert work
    assert check(model, promised + work) == {**dict.fromkeys(promised, True), **dict.fromkeys(work, False)}


@pytest.mark.parametrize(("model", "switch"), COUNTEREXAMPLES)
def test_without_the_rule_an_attack_is_found(model: str, switch: str) -> None:
    violated = COUNTEREXAMPLES[model, switch]
    assert check(model, [violated], switch) == {violated: False}


def test_every_switch_of_a_model_is_tried() -> None:
    assert sorted(COUNTEREXAMPLES) == sorted(
        (model, switch) for model in MODELS for switch in list_switches(model)
    )


def test_every_property_is_violated_by_some_missing_rule() -> None:
    """A property that nothing can violate says nothing."""
    tried = set(COUNTEREXAMPLES.values())
    assert {"agreement_gateway", "injective_gateway", "agreement_peer", "injective_peer"} <= tried
    assert {name for model in MODELS for name in list_properties(model)} == tried


def test_a_search_that_could_not_end_is_no_proof(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.model.spin._run", lambda *_: "error: max search depth too small\nerrors: 0\n")
    with pytest.raises(SpinError, match="not exhaustive"):
        check("leases", ["own_lease"])
