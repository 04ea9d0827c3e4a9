"""What a figure says of its target."""

from dataclasses import replace

import pytest

from bench.stats import Figure

AT_LEAST = Figure("speed", "x", [2.0, 2.2, 1.8], "baseline", [4.0, 4.0, 4.0], 0.5, at_least=True, ratio=True)


def test_a_ratio_is_taken_round_by_round() -> None:
    assert AT_LEAST.values == [0.5, 0.55, 0.45]
    assert replace(AT_LEAST, ratio=False).values == [2.0, 2.2, 1.8]


def test_refuses_a_round_without_its_baseline() -> None:
    with pytest.raises(ValueError, match="shorter"):
        _ = replace(AT_LEAST, baseline=[4.0]).values


@pytest.mark.parametrize(
    ("target", "at_least", "verdict"),
    [
        (0.5, True, "met"),
        (0.52, True, "within noise"),  # some round reached it
        (0.6, True, "missed"),
        (0.5, False, "met"),
        (0.48, False, "within noise"),
        (0.4, False, "missed"),
    ],
)
def test_a_target_is_missed_only_when_all_of_the_interval_lies_beyond(
    target: float, at_least: bool, verdict: str
) -> None:
    assert replace(AT_LEAST, target=target, at_least=at_least).verdict() == verdict


def test_a_figure_keeps_every_round_for_whoever_looks_closer() -> None:
    told = AT_LEAST.to_json()
    assert told["measured"]["rounds"] == [2.0, 2.2, 1.8]
    assert told["baseline"] == {"name": "baseline", "median": 4.0, "rounds": [4.0, 4.0, 4.0]}
    assert told["interval95"][0] <= told["median"] <= told["interval95"][1]
    assert "met" in AT_LEAST.row()
