"""Compare two policies: who gains and who loses reach. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from filters.flow import Protocol
from filters.policy.matching import denies
from filters.policy.model import Policy
from filters.policy.services import range_text
from filters.policy.sweep import Span, decided_pairs


@dataclass(frozen=True, slots=True, order=True)
class Reach:
    """Ports of one protocol that one peer may open at another, and the rule that allows (or allowed) it."""

    source: str
    destination: str
    protocol: Protocol
    first: int
    last: int
    rule: str

    @property
    def service(self) -> str:
        """Write the ports as a policy does."""
        return range_text(self.protocol, self.first, self.last)


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """What another policy changes. `moved` peers keep their name and change place, or what they have to prove.

    `reruled`: (rule before, rule after) by which flows stay allowed and are inspected otherwise, or not any more.
    """

    gained: tuple[Reach, ...]
    lost: tuple[Reach, ...]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    moved: tuple[str, ...]
    reruled: tuple[tuple[str, str], ...] = ()


def compare_policies(before: Policy, after: Policy) -> PolicyDiff:
    """Return what `after` changes; agrees with the evaluator's rule condition for every flow."""
    old, new = _allowed(before), _allowed(after)
    gained, lost = list[Reach](), list[Reach]()
    reruled = dict[tuple[int, int], set[tuple[str, str]]]()
    for pair in old.keys() | new.keys():
        was, will_be = old.get(pair, ()), new.get(pair, ())
        gained += _subtract(pair, will_be, was)
        lost += _subtract(pair, was, will_be)
        if (id(was), id(will_be)) not in reruled:  # pairs with the same rules share one tuple
            reruled[id(was), id(will_be)] = set(_reruled(was, will_be))
    names_before, names_after = set(before.peers), set(after.peers)
    moved = {name for name in names_before & names_after if _place(before, name) != _place(after, name)}
    return PolicyDiff(
        tuple(sorted(gained)),
        tuple(sorted(lost)),
        tuple(sorted(names_after - names_before)),
        tuple(sorted(names_before - names_after)),
        tuple(sorted(moved)),
        tuple(sorted(set().union(*reruled.values()))),
    )


def _place(policy: Policy, name: str) -> tuple[object, ...]:
    return *demands(policy, name), policy.peers[name].ek


def demands(policy: Policy, name: str) -> tuple[object, ...]:
    """Return what a session of this peer stands on, its TPM aside: another place or profile ends it."""
    peer = policy.peers[name]
    profile = policy.profiles[peer.profile]
    return peer.port, peer.mac, peer.ip, peer.profile, profile.pcrs, profile.layers


def _allowed(policy: Policy) -> Mapping[tuple[str, str], tuple[Span, ...]]:
    """Return the allowing spans of every pair; pairs with the same rules share one tuple."""
    kept: dict[int, tuple[Span, ...]] = {}
    found: dict[tuple[str, str], tuple[Span, ...]] = {}
    for source, destination, spans in decided_pairs(policy.rules):
        if id(spans) not in kept:
            kept[id(spans)] = tuple(span for span in spans if not denies(span.rule))
        found[source, destination] = kept[id(spans)]
    return found


def _subtract(pair: tuple[str, str], spans: tuple[Span, ...], taken: tuple[Span, ...]) -> Iterator[Reach]:
    """Cut out of `spans` what `taken` has as well; both are disjoint and ascending within a protocol."""
    if spans is taken:
        return
    for span in spans:
        first = span.first
        for other in taken:
            if other.protocol is not span.protocol or other.last < first or other.first > span.last:
                continue
            if other.first > first:
                yield Reach(*pair, span.protocol, first, other.first - 1, span.rule.id)
            first = other.last + 1
        if first <= span.last:
            yield Reach(*pair, span.protocol, first, span.last, span.rule.id)


def _reruled(was: tuple[Span, ...], will_be: tuple[Span, ...]) -> Iterator[tuple[str, str]]:
    """Yield the rules that decide the same ports before and after, and inspect otherwise; both ascend by protocol and port."""
    at = 0
    for new in will_be:
        while at < len(was) and (was[at].protocol, was[at].last) < (new.protocol, new.first):
            at += 1
        for old in islice(was, at, None):
            if (old.protocol, old.first) > (new.protocol, new.last):
                break
            if old.rule.inspection != new.rule.inspection:
                yield old.rule.id, new.rule.id
