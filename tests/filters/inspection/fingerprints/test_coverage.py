"""The share of a document that is recognised, counted twice."""

from hypothesis import given
from hypothesis import strategies as st

from filters.inspection.fingerprints.coverage import share_recognised
from filters.inspection.fingerprints.parameters import GRAM, NEEDED, RUN, WINDOW


@given(st.integers(0, 1500), st.dictionaries(st.integers(0, 1400), st.integers(0, 30), max_size=80))
def test_agrees_with_counting_every_run(size: int, kept: dict[int, int]) -> None:
    placed = sorted((place, name) for place, name in kept.items() if place <= size - GRAM)
    enough = 0
    for start in range(max(0, size - RUN + 1)):
        sure = range(start + WINDOW - 1, start + RUN - GRAM - WINDOW + 2)
        enough += len({name for place, name in placed if place in sure}) >= NEEDED
    places, names = [one for one, _ in placed], [one for _, one in placed]
    assert share_recognised(size, places, names) == (max(0, size - RUN + 1), enough)
