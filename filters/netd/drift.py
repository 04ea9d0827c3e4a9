"""Tell what somebody else changed in our dynamic sets. Pure: kernel's elements against the book's."""

from collections.abc import Iterable, Mapping
from typing import Final

from filters.netd.elements import Element
from filters.netd.nf_tables import KernelElement
from filters.ruleset.names import DYNAMIC, MapName, SetName

_SLACK_MS: Final = 100  # the kernel counts in ticks; what is about to expire proves nothing


def dynamic_differences(
    kernel: Mapping[SetName | MapName, Iterable[KernelElement]], expected: Iterable[Element]
) -> list[str]:
    """Name each set with elements that are foreign, missing, altered or live longer than they were given."""
    wanted: dict[SetName | MapName, dict[bytes, Element]] = {place: {} for place in DYNAMIC}
    for element in expected:
        wanted[element.place][element.key] = element
    words: list[str] = []
    for place in DYNAMIC:
        words += _compare(place, list(kernel.get(place, ())), wanted[place])
    return words


def _compare(
    place: SetName | MapName, found: list[KernelElement], wanted: Mapping[bytes, Element]
) -> list[str]:
    words = []
    foreign = [one for one in found if not _ours(one, wanted.get(one.key))]
    if foreign:
        words.append(f"{len(foreign)} foreign or altered in {place}")
    present = {one.key for one in found}
    missing = [key for key, one in wanted.items() if key not in present and _lasting(one.timeout_ms)]
    if missing:
        words.append(f"{len(missing)} missing in {place}")
    return words


def _ours(one: KernelElement, wanted: Element | None) -> bool:
    if wanted is None:  # forgotten at its time; the kernel may be a tick behind
        return one.remaining_ms is not None and one.remaining_ms <= _SLACK_MS
    if one.data != (wanted.data or b""):
        return False
    if wanted.timeout_ms is None or one.remaining_ms is None:
        return wanted.timeout_ms is one.remaining_ms
    return one.remaining_ms <= wanted.timeout_ms + _SLACK_MS


def _lasting(timeout_ms: int | None) -> bool:
    return timeout_ms is None or timeout_ms > _SLACK_MS
