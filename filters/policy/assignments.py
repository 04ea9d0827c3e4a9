"""Say who is inspected how under a policy. Pure."""

from filters.inspection.assignments import Assignment
from filters.policy.compiled import CompiledPolicy
from filters.policy.model import Policy


def assignments_of(policy: Policy, compiled: CompiledPolicy) -> list[Assignment]:
    """Return one assignment for each range of services that a rule with `inspect` decides."""
    specs = {rule.id: rule.inspection for rule in policy.rules}
    return [
        Assignment(
            int(one.protocol), str(one.source), str(one.destination), one.first, one.last, one.rule, spec
        )
        for one in compiled.allowed
        if one.inspected and (spec := specs[one.rule]) is not None
    ]
