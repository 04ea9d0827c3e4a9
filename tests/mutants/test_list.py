"""The list of mutants stays true to the code: every check stands where it says, every test exists."""

import re
from collections import Counter
from pathlib import Path

import pytest

from authn.failure import AttestationFailure
from tests.mutants.verifier import MUTANTS, Mutant

ROOT = Path(__file__).resolve().parents[2]
# refused by the gateway from what it remembers; tested in tests/gateway and tests/lab
_ELSEWHERE = {"unknown-peer", "wrong-place", "tpm-clone", "handshake-timeout", "late-answer"}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: f"{one.file}-{one.function}")
def test_the_check_stands_once_and_its_test_exists(mutant: Mutant) -> None:
    assert (ROOT / "authn" / mutant.file).read_text().count(mutant.before) == 1
    assert re.search(rf"^def {mutant.function}\(", (ROOT / mutant.module).read_text(), re.MULTILINE)


def test_no_mutant_is_listed_twice() -> None:
    assert max(Counter((one.file, one.before) for one in MUTANTS).values()) == 1


def test_every_failure_is_named_by_a_test() -> None:
    tests = "".join(path.read_text() for path in (ROOT / "tests/authn").glob("test_*.py"))
    missing = {
        failure.value
        for failure in AttestationFailure
        if not re.search(rf"\b{failure.name}\b", tests) and failure.value not in _ELSEWHERE
    }
    assert not missing
