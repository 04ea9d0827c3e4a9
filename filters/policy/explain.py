"""Put a decision into words and into JSON."""

from filters.policy.evaluator import Decision, Request


def to_json(decision: Decision) -> dict[str, object]:
    """Return the documented object: verdict, reason, rule, conditions, advice."""
    return {
        "verdict": str(decision.verdict),
        "reason": str(decision.reason) if decision.reason else None,
        "rule": decision.rule.id if decision.rule else None,
        "conditions": [
            {"name": one.name, "holds": one.holds, "detail": one.detail} for one in decision.conditions
        ],
        "advice": decision.advice,
    }


def to_text(request: Request, explained: dict[str, object]) -> str:
    """Return the same for people."""
    reason = f": {explained['reason']}" if explained["reason"] else ""
    lines = [f"{request.source} -> {request.destination} {request.service}: {explained['verdict']}{reason}"]
    conditions = explained["conditions"]
    assert isinstance(conditions, list)  # noqa: S101 - to_json's own shape
    lines += [f"  {'yes' if one['holds'] else 'NO '}  {one['name']}: {one['detail']}" for one in conditions]
    if explained["advice"]:
        lines.append(f"  advice: {explained['advice']}")
    return "\n".join(lines)
