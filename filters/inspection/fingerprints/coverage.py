"""Say how much of a document its fingerprints recognise: the guarantee, counted instead of believed."""

from collections import Counter
from collections.abc import Sequence

from filters.inspection.fingerprints.parameters import GRAM, NEEDED, RUN, WINDOW


def share_recognised(size: int, places: Sequence[int], names: Sequence[int]) -> tuple[int, int]:
    """Return how many runs of RUN bytes a text of `size` bytes has, and how many hold NEEDED different fragments.

    Only those fragments count that are kept whatever stands before and after the run: so it is never too much.
    """
    runs = max(0, size - RUN + 1)
    # the fragment at p is sure to be kept in the runs that begin in [p - last, p - first]
    first, last = WINDOW - 1, RUN - GRAM - (WINDOW - 1)
    inside: Counter[int] = Counter()
    different = enough = entered = left = at = 0
    while at < runs and left < len(places):
        while entered < len(places) and places[entered] - last <= at:
            inside[names[entered]] += 1
            different += inside[names[entered]] == 1
            entered += 1
        while left < entered and places[left] - first < at:
            inside[names[left]] -= 1
            different -= inside[names[left]] == 0
            left += 1
        following = min(
            runs,
            places[entered] - last if entered < len(places) else runs,
            places[left] - first + 1 if left < entered else runs,
        )
        if different >= NEEDED:
            enough += following - at
        at = max(following, at + 1)
    return runs, enough
