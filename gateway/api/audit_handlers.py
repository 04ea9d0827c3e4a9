"""The control API's part about the audit record: verify it, and take away what an operator has elsewhere."""

from functools import partial
from typing import Any

from gateway.api import reading
from gateway.api.arguments import MAX_SEQUENCE, MAX_SHOWN, sha256_of, text_of
from gateway.api.routes import Call, Permission, route
from gateway.audit import kept
from gateway.audit.kept import Base, check_prunable, newest_head, read_base
from gateway.audit.verify import RESTORED, KnownHead, verify_audit
from gateway.daemon.service import Service
from gateway.errors import GatewayError
from gateway.events.model import AuditPruned

TRIES = 3

READ, ADMINISTER = Permission.READ, Permission.ADMINISTER


@route("GET", "/v1/audit", READ, when_full=True)
async def audit(call: Call) -> dict[str, Any]:
    """Tell where the record begins, how far a signed head covers it, and that head."""
    base, signed = await reading.read(partial(_extent, call.service))
    return {"base": {"sequence": base.sequence, "hash": base.hash.hex()}, "signed": signed}


def _extent(service: Service) -> tuple[Base, str | None]:
    with kept.reading(service.spool.path) as reader:
        head = newest_head(reader)
        return read_base(reader), head.to_json() if head else None


@route("POST", "/v1/audit/verify", READ, "known_heads", waits=True, when_full=True)
async def audit_verify(call: Call) -> dict[str, Any]:
    """Verify the audit record against the TPM and against heads that others remember."""
    service, known = call.service, _known_heads(call.body.get("known_heads", []))
    async with call.turns.turn(call.actor):
        await service.recorder.flush()
        for _ in range(TRIES):
            counter = await service.tpm.read_counter()  # when it is its turn: heads are signed meanwhile
            work = partial(verify_audit, service.spool.path, service.key, counter, known)
            count, findings = await reading.verify(work)
            if (
                not any(one.code == RESTORED for one in findings)
                or counter == await service.tpm.read_counter()
            ):
                break  # else one may have been signed between counter and record
    found = [{"code": one.code, "message": one.message} for one in findings]
    return {"records": count, "intact": not found, "findings": found, "witnesses": len(known)}


def _known_heads(given: object) -> list[KnownHead]:
    """Read what witnesses remember: a head that nothing could contradict is no witness."""
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise GatewayError("malformed-request", "`known_heads`: expected a list of source, sequence and hash")
    heads = []
    for one in given:
        sequence = one.get("sequence")
        if type(sequence) is not int or not 0 <= sequence <= MAX_SEQUENCE:
            raise GatewayError(
                "malformed-request",
                f"`known_heads`: `sequence`: expected a record's number, got {str(sequence)[:MAX_SHOWN]!r}",
            )
        heads.append(KnownHead(text_of(one, "source"), sequence, bytes.fromhex(sha256_of(one, "hash"))))
    return heads


@route("POST", "/v1/audit/prune", ADMINISTER, "through", "hash", when_full=True)
async def audit_prune(call: Call) -> dict[str, Any]:
    """Take records away; the hash of the last one tells that the caller has read them. It is on record first."""
    service, through = call.service, call.body.get("through")
    if type(through) is not int or not 0 < through <= MAX_SEQUENCE:
        raise GatewayError("malformed-request", f"`through` must be a record's number, got {through!r}")
    digest = bytes.fromhex(sha256_of(call.body, "hash"))
    async with call.turns.turn(call.actor):
        await reading.verify(partial(check_prunable, service.spool.path, service.key, through, digest))
        await service.recorder.record(AuditPruned(through, digest.hex(), call.actor), reserved=True)
        await reading.verify(partial(kept.prune, service.spool.path, Base(through, digest)))
        room = await reading.read(service.spool.room)
    return {"through": through, "room": room}
