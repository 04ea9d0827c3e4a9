"""Cut the port line of every pair of peers into pieces, each with the one rule that decides it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush
from itertools import pairwise

from filters.flow import Protocol
from filters.policy.matching import only_reports, rank, rules_by_pair
from filters.policy.model import Rule


@dataclass(frozen=True, slots=True)
class Span:
    """Ports of one protocol, first to last, and the rule that decides them."""

    protocol: Protocol
    first: int
    last: int
    rule: Rule


def decided_pairs(rules: Iterable[Rule]) -> Iterator[tuple[str, str, tuple[Span, ...]]]:
    """Yield (source, destination, disjoint spans) for every pair that a rule speaks about.

    Pairs about which the same rules speak are swept once: "any" to "any" among 800 peers is one sweep.
    """
    swept: dict[tuple[str, ...], tuple[Span, ...]] = {}
    for (source, destination), about in rules_by_pair(rules).items():
        ids = tuple(rule.id for rule in about)
        if ids not in swept:
            swept[ids] = tuple(span for protocol in Protocol for span in _sweep(about, protocol))
        yield source, destination, swept[ids]


def _sweep(rules: Sequence[Rule], protocol: Protocol) -> Iterator[Span]:
    """Join neighbouring pieces that one rule decides."""
    joined: Span | None = None
    for piece in _pieces(rules, protocol):
        if joined is not None and joined.rule is piece.rule and joined.last == piece.first - 1:
            joined = Span(protocol, joined.first, piece.last, piece.rule)
            continue
        if joined is not None:
            yield joined
        joined = piece
    if joined is not None:
        yield joined


def _pieces(rules: Sequence[Rule], protocol: Protocol) -> Iterator[Span]:
    """Cut wherever a rule begins or ends; the heap's top is the rule that decides the piece.

    Ranges that have ended are only removed when they reach the top: n log n for n ranges.
    """
    deciders = [rule for rule in rules if not only_reports(rule)]
    ranges = sorted(
        (
            (one.first, one.last, rule)
            for rule in deciders
            for one in rule.services
            if one.protocol is protocol
        ),
        key=lambda entry: entry[0],
    )
    cuts = sorted({first for first, _, _ in ranges} | {last + 1 for _, last, _ in ranges})
    heap: list[tuple[tuple[int, int, str], int]] = []
    at = 0
    for first, end in pairwise(cuts):
        while at < len(ranges) and ranges[at][0] <= first:
            heappush(heap, (rank(ranges[at][2]), at))
            at += 1
        while heap and ranges[heap[0][1]][1] < first:
            heappop(heap)
        if heap:
            yield Span(protocol, first, end - 1, ranges[heap[0][1]][2])
