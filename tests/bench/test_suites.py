"""The bench runs: one round of those suites that take seconds. What the figures are is not looked at here."""

import math
import os

import pytest

from bench.__main__ import SUITES

pytestmark = [pytest.mark.netns, pytest.mark.timeout(180)]
QUICK = ("verify", "inspection", "datagrams", "content", "rules")


@pytest.mark.skipif(os.geteuid() != 0, reason="the bench makes network namespaces: that needs root")
@pytest.mark.parametrize("suite", QUICK)
def test_a_suite_measures(suite: str) -> None:
    figures = SUITES[suite](1)
    assert figures
    for one in figures:
        assert len(one.measured) >= 1
        assert all(math.isfinite(value) for value in (*one.values, *one.baseline))
        assert all(value > 0 for value in one.baseline), one.name
