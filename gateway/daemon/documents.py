"""Read the signed documents that the service starts with.

A reference set that has expired keeps nobody from starting: it lets nobody in, and whoever it would have let in is refused
for its age (`reference-expired`), with no blame.
"""

import logging
import time
from pathlib import Path

from authn.bundle import Anchors
from authn.errors import AuthnError
from authn.portmap import KIND as PORTMAP_KIND
from authn.portmap import PortMap
from authn.reference import KIND as REFERENCE_KIND
from authn.reference import ReferenceSet
from authn.signing import AT_ANY_TIME, DocumentError, SignedDocument, verify_document
from gateway.evidence.keeper import EvidenceKeeper
from gateway.setup import GatewaySetup, SetupError

_log = logging.getLogger(__name__)


def load_portmap(setup: GatewaySetup) -> PortMap:
    """Read who is where; raises SetupError naming the file."""
    untrusted = _read(setup.portmap)
    try:
        return PortMap.from_document(
            verify_document(untrusted, PORTMAP_KIND, setup.portmap_keys, time.time())
        )
    except AuthnError as error:
        raise _unusable(setup.portmap, error) from error


def load_references(setup: GatewaySetup) -> tuple[ReferenceSet, ...]:
    """Read the sets that peers are judged by, also expired ones; raises SetupError naming the file."""
    now, sets = time.time(), []
    for path in setup.references:
        found = _reference_document(path, setup)
        if now > found.not_after:
            _log.warning(
                "%s: this reference set has expired and lets nobody in; sign a newer one (%s)", path, _HOW
            )
        try:
            sets.append(ReferenceSet.from_document(found))
        except AuthnError as error:
            raise _unusable(path, error) from error
    return tuple(sets)


def own_references(setup: GatewaySetup) -> bytes | None:
    """Read the set that peers judge this image by; one that they would refuse does not go out. Raises SetupError."""
    path = setup.own_references
    if path is None:
        return None
    if time.time() > _reference_document(path, setup).not_after:
        _log.warning(
            "%s: the reference set of this image has expired: peers are not shown it, and those without another one "
            "refuse this gateway; sign a newer one (%s)",
            path,
            _HOW,
        )
        return None
    return path.read_bytes()


def evidence_keeper(setup: GatewaySetup) -> EvidenceKeeper:
    """Make the keeper of what peers prove, with what outsiders need to judge it."""
    anchors = Anchors(tuple(path.read_text() for path in setup.ek_roots), setup.reference_keys)
    references = tuple(path.read_bytes() for path in setup.references)
    return EvidenceKeeper(setup.state_dir / "evidence", setup.gateway_id, anchors, references)


_HOW = "quotegate image sign; a lab signs anew at: quotegate lab resume --days 30 where it has virtual machines, else lab up"


def _reference_document(path: Path, setup: GatewaySetup) -> SignedDocument:
    untrusted = _read(path)
    try:
        return verify_document(untrusted, REFERENCE_KIND, setup.reference_keys, AT_ANY_TIME)
    except DocumentError as error:
        raise _unusable(path, error) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SetupError("unreadable-setup", f"{path}: {error.strerror}") from error


def _unusable(path: Path, error: AuthnError) -> SetupError:
    return SetupError("bad-document", f"{path}: {error.code}: {error.message}; have it signed anew ({_HOW})")
