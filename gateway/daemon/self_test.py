"""The self-test that an updated gateway has to pass before its image counts as good.

Each check is of what peers rely on: the rules in the kernel, inspectors, the TPM's quote as a peer would judge it, and
a record that is durable. It changes nothing but that record.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from authn import labels, merkle
from authn.appraisal import Measured
from authn.errors import AuthnError
from authn.event_log import parse_event_log, replay
from authn.quote import ExpectedQuote, verify_quote
from authn.reference import KIND, ReferenceSet, check_reference
from authn.signing import verify_document
from filters.errors import FiltersError, NetdError
from filters.netd.protocol import NetdCode
from gateway.daemon.service import Service
from gateway.errors import GatewayError
from gateway.events.model import GatewayProved

CONFINED_BY = ("landlock", "seccomp")


@dataclass(frozen=True, slots=True)
class Check:
    """One check and how it came out; `detail` says what is wrong. `pending`: it may be because parts still start."""

    name: str
    detail: str = ""
    pending: bool = False

    @property
    def passed(self) -> bool:
        """Tell whether nothing is wrong."""
        return not self.detail


class NotYet(Exception):
    """What is missing may still come."""


async def run_self_test(service: Service) -> list[Check]:
    """Run all checks. The last one puts on record that the others passed; it is left out when one did not."""
    checks = [await _run(name, check, service) for name, check in _CHECKS.items()]
    if all(one.passed for one in checks):
        checks.append(await _run("record", _record, service))
    return checks


async def _run(name: str, check: Callable[[Service], Awaitable[str]], service: Service) -> Check:
    try:
        return Check(name, await check(service))
    except NotYet as error:
        return Check(name, str(error), pending=True)
    except (GatewayError, FiltersError, AuthnError) as error:
        return Check(name, f"{error.code}: {error.message}")
    except OSError as error:
        return Check(name, str(error))


async def _rules(service: Service) -> str:
    try:
        differences = await service.netd.read_back()
    except NetdError as error:
        if error.code != NetdCode.NO_POLICY:
            raise
        raise NotYet("no policy is loaded") from error
    if service.changer.closed:
        return f"no policy is in force: {service.changer.closed}"
    return f"the kernel's rules are not those of the policy: {'; '.join(differences)}" if differences else ""


async def _inspector(service: Service) -> str:
    known = service.inspectors.describe()
    if not known:
        raise NotYet("no inspector is here")
    for one in known:
        by = " ".join(map(str, one["confined"])) if isinstance(one["confined"], list) else ""
        missing = [name for name in CONFINED_BY if name not in by]
        if missing:
            return f"an inspector is not confined by {' and '.join(missing)}"
    return ""


async def _quote(service: Service) -> str:
    """Judge our own quote as a peer would: signature, log, reference values."""
    setup, leaf = service.setup, secrets.token_bytes(32)
    proof = await service.tpm.quote_handshake(leaf)
    root = merkle.root_of_path(leaf, proof.index, proof.size, proof.path)
    if root is None:
        return "the batch proof does not fit its index and size"
    profile = setup.gateway_profile
    events = parse_event_log(setup.event_log.read_bytes(), profile.selection.bank)
    values = replay(events, profile.selection)
    label = labels.gateway_batch(proof.size, root)
    verify_quote(proof.quote, ExpectedQuote(service.key, profile.selection, label, values, None))
    check_reference(profile, Measured(events, (), values), _references(service), service.clock.wall())
    return ""


def _references(service: Service) -> tuple[ReferenceSet, ...]:
    own = service.setup.own_references
    if own is None:
        return service.references
    document = verify_document(own.read_bytes(), KIND, service.setup.reference_keys, service.clock.wall())
    return (ReferenceSet.from_document(document),)


async def _record(service: Service) -> str:
    before = service.spool.head[0]
    await service.recorder.record(GatewayProved(tuple(_CHECKS)))
    after = service.spool.head[0]
    return "" if after > before else f"the record did not grow: it ends with number {after}"


_CHECKS: Mapping[str, Callable[[Service], Awaitable[str]]] = {
    "rules": _rules,
    "inspector": _inspector,
    "quote": _quote,
}
