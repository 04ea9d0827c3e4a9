"""Say beforehand what another policy would do. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from filters.inspection.spec import InspectionSpec
from filters.policy.compiled import CompiledPolicy
from filters.policy.diff import PolicyDiff, Reach, compare_policies, demands
from filters.policy.model import Policy
from filters.ruleset.names import INSPECTED_BIT
from filters.ruleset.sets import static_elements
from gateway.sessions.book import Session


@dataclass(frozen=True, slots=True)
class Plan:
    """What would change: reach, inspection, live sessions that would end, elements of the kernel's static sets."""

    diff: PolicyDiff
    inspection: tuple[str, ...]
    cut: tuple[Session, ...]
    ruleset: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Write the documented object."""
        diff = self.diff
        return {
            "gained": [_reach_json(one) for one in diff.gained],
            "lost": [_reach_json(one) for one in diff.lost],
            "peers": {"added": diff.added, "removed": diff.removed, "moved": diff.moved},
            "inspection": list(self.inspection),
            "sessions_cut": [
                {
                    "session_id": one.session_id,
                    "from": one.source,
                    "to": one.destination,
                    "service": str(one.service),
                }
                for one in self.cut
            ],
            "ruleset": list(self.ruleset),
        }


def _reach_json(reach: Reach) -> dict[str, str]:
    return {"from": reach.source, "to": reach.destination, "service": reach.service, "rule": reach.rule}


def make_plan(
    before: Policy,
    after: Policy,
    compiled_before: CompiledPolicy,
    compiled_after: CompiledPolicy,
    live: Iterable[Session],
    enrolled: Mapping[str, str],
) -> Plan:
    """Compare the policy in force with a draft. `enrolled`: the peers' endorsement keys (fingerprints)."""
    diff = compare_policies(before, after)
    # they have to prove themselves anew, or can't any more
    disturbed = {*diff.removed, *(name for name in diff.moved if not _stays(name, before, after, enrolled))}
    cut = tuple(
        session
        for session in live
        if disturbed & {session.source, session.destination}
        or not _survives(session, compiled_before, compiled_after)
    )
    ruleset = _ruleset_diff(compiled_before, compiled_after)
    return Plan(diff, _inspection_diff(before, after, diff.reruled), cut, ruleset)


def _stays(name: str, before: Policy, after: Policy, enrolled: Mapping[str, str]) -> bool:
    ek = after.peers[name].ek
    return demands(before, name) == demands(after, name) and ek in (None, enrolled.get(name))


def _survives(session: Session, before: CompiledPolicy, after: CompiledPolicy) -> bool:
    """Tell whether a session stays: permitted, inspected exactly if it was, and handed over as it was."""
    old, new = before.permits(session.key), after.permits(session.key)
    return (
        new is not None
        and new.inspected == bool(session.lease_id & INSPECTED_BIT)
        and (old is None or old.offloads == new.offloads)
    )


def _inspection_diff(before: Policy, after: Policy, reruled: Iterable[tuple[str, str]]) -> tuple[str, ...]:
    """Say of each rule that stays how it inspects otherwise, and of flows that another rule decides how that one does.

    Their connections under way end.
    """
    old = {rule.id: rule.inspection for rule in before.rules}
    new = {rule.id: rule.inspection for rule in after.rules}
    stay = tuple(
        f"rule {name}: {_inspected(old[name])} -> {_inspected(new[name])}"
        for name in new
        if name in old and old[name] != new[name]
    )
    return stay + tuple(
        f"flows of rule {was}, then of rule {will_be}: {_inspected(old[was])} -> {_inspected(new[will_be])}"
        for was, will_be in reruled
        if was != will_be
    )


def _inspected(spec: InspectionSpec | None) -> str:
    return "not inspected" if spec is None else f"inspected ({spec})"


def _ruleset_diff(before: CompiledPolicy, after: CompiledPolicy) -> tuple[str, ...]:
    """List the elements that go (-) and come (+), by set: the chains are the same for every policy."""
    old, new = static_elements(before), static_elements(after)
    lines = []
    for name in old:
        gone, come = set(old[name]), set(new[name])
        lines += [f"- {name} {element}" for element in old[name] if element not in come]
        lines += [f"+ {name} {element}" for element in new[name] if element not in gone]
    return tuple(lines)
