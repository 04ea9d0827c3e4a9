"""Medians, spread, bootstrap intervals, and the verdict on a target."""

import random
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

RESAMPLES = 2000


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure: what was measured beside what, the target, and every round."""

    name: str
    unit: str
    measured: Sequence[float]
    baseline_name: str
    baseline: Sequence[float]
    target: float
    at_least: bool
    ratio: bool
    note: str = ""

    @property
    def values(self) -> list[float]:
        """The figure per round: a ratio to the round's baseline, or the measurement itself."""
        if not self.ratio:
            return list(self.measured)
        return [one / base for one, base in zip(self.measured, self.baseline, strict=True)]

    def interval(self) -> tuple[float, float]:
        """Return the 95 % bootstrap interval of the median."""
        rng, values = random.Random(1), self.values
        medians = sorted(statistics.median(rng.choices(values, k=len(values))) for _ in range(RESAMPLES))
        return medians[int(0.025 * RESAMPLES)], medians[int(0.975 * RESAMPLES) - 1]

    def verdict(self) -> str:
        """A target is missed only when the whole interval lies on the wrong side."""
        low, high = self.interval()
        missed = high < self.target if self.at_least else low > self.target
        median = statistics.median(self.values)
        met = median >= self.target if self.at_least else median <= self.target
        return "missed" if missed else ("met" if met else "within noise")

    def to_json(self) -> dict[str, Any]:
        """Return everything, raw rounds included."""
        low, high = self.interval()
        return {
            "name": self.name, "unit": self.unit, "median": statistics.median(self.values), "interval95": [low, high],
            "target": self.target, "at_least": self.at_least, "verdict": self.verdict(), "note": self.note,
            "measured": {"median": statistics.median(self.measured), "rounds": list(self.measured)},
            "baseline": {"name": self.baseline_name, "median": statistics.median(self.baseline), "rounds": list(self.baseline)},
        }  # fmt: skip

    def row(self) -> str:
        """Return one line for people."""
        low, high = self.interval()
        sign = ">=" if self.at_least else "<="
        median, base = statistics.median(self.values), statistics.median(self.baseline)
        spread = f"{min(self.values):.3g}-{max(self.values):.3g}"
        return (
            f"{self.name:<46} {median:>8.3g} {self.unit:<9} 95% {low:.3g}-{high:.3g}  rounds {spread:<13} "
            f"target {sign} {self.target:<6g} {self.verdict():<13} beside {self.baseline_name}: {base:.4g}"
        )
