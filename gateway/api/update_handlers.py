"""The control API's part about updates of the gateway's own image: what the host's monitor asks and tells."""

from typing import Any

from gateway.api.arguments import text_of
from gateway.api.routes import Call, Permission, route
from gateway.daemon.self_test import run_self_test
from gateway.errors import GatewayError
from gateway.events.model import GatewayUpdated

OUTCOMES = ("blessed", "fell-back")


@route("POST", "/v1/self-test", Permission.ADMINISTER)
async def self_test(call: Call) -> dict[str, Any]:
    """Run the self-test."""
    checks = await run_self_test(call.service)
    listed = [
        {"check": one.name, "passed": one.passed, "detail": one.detail, "pending": one.pending}
        for one in checks
    ]
    return {"passed": all(one.passed for one in checks), "checks": listed}


@route("POST", "/v1/update/outcome", Permission.ADMINISTER, "outcome", "version", "detail")
async def record_outcome(call: Call) -> dict[str, Any]:
    """Put on record how an update ended."""
    outcome, version, detail = (
        text_of(call.body, "outcome"),
        call.body.get("version"),
        text_of(call.body, "detail"),
    )
    if outcome not in OUTCOMES or type(version) is not int:
        raise GatewayError(
            "malformed-request", f"expected an outcome of {', '.join(OUTCOMES)} and a version, a number"
        )
    await call.service.recorder.record(GatewayUpdated(outcome, version, detail))
    return {"recorded": outcome}


@route("POST", "/v1/update/commit", Permission.ADMINISTER)
async def commit(call: Call) -> dict[str, Any]:
    """Have the TPM open the state to no older image any more; there is no way back."""
    version = await call.service.tpm.raise_least_version()
    await call.service.recorder.record(GatewayUpdated("committed", version, f"by {call.actor}"))
    return {"least": version}
