"""`quotegate evidence`: save what a peer proved, show it, and verify it anywhere, without a gateway."""

import argparse
import datetime as dt
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from authn.attest import parse_quote
from authn.bundle import Anchors, BundleError, BundleVerifier, EvidenceBundle
from authn.errors import AuthnError
from authn.event_log import parse_event_log
from authn.ima import parse_ima_list
from authn.layers import Layer
from authn.public_area import key_name
from gateway.cli.client import in_path
from gateway.cli.exits import EXIT_FOUND, EXIT_OK
from gateway.cli.operate import client
from gateway.cli.output import say, show_json
from gateway.errors import GatewayError
from gateway.events.plain import escaped


def save(arguments: argparse.Namespace) -> int:
    """Write a peer's evidence to a file."""
    which = "refused" if arguments.refused else "accepted"
    bundle = client(arguments).get(f"/v1/peers/{in_path(arguments.peer)}/evidence?which={which}")
    path = arguments.output or Path(f"{arguments.peer}-evidence.json")
    try:
        path.write_text(json.dumps(bundle, indent=1) + "\n")
    except OSError as error:
        raise GatewayError("unwritable", f"{path}: {error.strerror}") from error
    answer = {
        "file": str(path),
        "peer": bundle["peer"],
        "verdict": bundle["verdict"],
        "taken_at": bundle["taken_at"],
    }
    show_json(answer) if arguments.json else say(f"{path}: {bundle['peer']}, {bundle['verdict']}")
    return EXIT_OK


def show(arguments: argparse.Namespace) -> int:
    """Print what a file contains, without judging it."""
    bundle = _load(arguments.file)
    if arguments.json:
        show_json(_contents(bundle))
        return EXIT_OK
    taken = dt.datetime.fromtimestamp(bundle.taken_at, dt.UTC).isoformat(timespec="seconds")
    head = f"{bundle.peer_id}, judged by {bundle.gateway_id} on {taken}: {bundle.verdict}"
    say(escaped(head))
    say(f"attestation key  {key_name(bundle.ak_public).hex()}")
    say(escaped(f"profile          {bundle.profile.id}: PCRs {bundle.profile.selection}"))
    for layer in _contents(bundle)["layers"]:
        counts = f"reset count {layer['reset_count']}, clock {layer['clock_ms']} ms"
        say(f"layer {escaped(layer['name'])}: {counts}")
        for event in layer["events"]:
            say(f"  PCR {event['pcr']:>2}  {event['digest'][:16]}…  {event['description']}")
        for file in layer["files"]:
            mark = "  VIOLATION" if file["violation"] else ""
            say(f"  file    {file['digest'][:16]}…  {escaped(file['path'])}{mark}")
    say("nothing of this has been verified: quotegate evidence verify FILE")
    return EXIT_OK


def verify(arguments: argparse.Namespace) -> int:
    """Verify a file offline; exit 4 with the failed check when it does not hold."""
    bundle = _load(arguments.file)
    own = replace(bundle.anchors, profile=None)  # whom the file trusts demands nothing beyond the file
    verifier = BundleVerifier(bundle, _load_anchors(arguments.anchors) if arguments.anchors else own)
    refusal = verifier.verify()
    if arguments.json:
        show_json(_verdict(verifier, refusal, anchored=bool(arguments.anchors)))
    else:
        for check in verifier.checks:
            say(f"{'ok  ' if check.refusal is None else 'FAIL'}  {check.name}")
        if refusal is not None:
            say(escaped(f"{refusal.code}: {refusal.message}"))
            for name, value in refusal.params.items():
                say(escaped(f"  {name}: {value}"))
        _say_claims(verifier, anchored=bool(arguments.anchors))
        say(escaped(f"{bundle.peer_id}: {'verified' if refusal is None else 'NOT verified'}"))
    return EXIT_OK if refusal is None else EXIT_FOUND


def _say_claims(verifier: BundleVerifier, *, anchored: bool) -> None:
    """Say whose machine it is, and what nothing but the file itself says."""
    bundle, machine = verifier.bundle, verifier.endorsement
    if machine is not None:
        say(escaped(f"machine: {machine.name}, uuid {machine.uuid}, by its EK certificate"))
    if not anchored:
        say("trusted: the CA and key that stand in the file itself; name your own with --anchors FILE")
    if verifier.anchors.profile is None:
        say(escaped(f"claimed by the file alone: that profile {bundle.profile.id} was demanded"))
    taken = dt.datetime.fromtimestamp(bundle.taken_at, dt.UTC).isoformat(timespec="seconds")
    told = f"gateway {bundle.gateway_id}, time {taken}, verdict {bundle.verdict}, the counters before"
    say(escaped(f"claimed by the file alone: {told}"))


def anchors(arguments: argparse.Namespace) -> int:
    """Print the CA, keys and profile that a bundle was judged by, as a file for --anchors."""
    bundle = _load(arguments.file)
    show_json(replace(bundle.anchors, profile=bundle.profile).to_json())
    return EXIT_OK


def _verdict(verifier: BundleVerifier, refusal: AuthnError | None, *, anchored: bool) -> dict[str, Any]:
    failed = None
    if refusal is not None:
        params = {name: str(value) for name, value in refusal.params.items()}
        failed = {
            "check": verifier.checks[-1].name,
            "code": refusal.code,
            "message": refusal.message,
            **params,
        }
    checks = {check.name: check.refusal is None for check in verifier.checks}
    machine = verifier.endorsement
    return {
        "verified": refusal is None,
        "anchored": anchored,
        "machine": None if machine is None else {"name": machine.name, "uuid": machine.uuid},
        "profile": {"id": verifier.profile.id, "anchored": verifier.anchors.profile is not None},
        "claimed": {
            "gateway": verifier.bundle.gateway_id,
            "taken_at": verifier.bundle.taken_at,
            "verdict": verifier.bundle.verdict,
        },
        "checks": checks,
        "failed": failed,
    }


def _contents(bundle: EvidenceBundle) -> dict[str, Any]:
    return {
        "peer": bundle.peer_id,
        "gateway": bundle.gateway_id,
        "taken_at": bundle.taken_at,
        "verdict": bundle.verdict,
        "ak_name": key_name(bundle.ak_public).hex(),
        "profile": bundle.profile.to_json(),
        "layers": [_layer_contents(layer) for layer in bundle.layers],
    }


def _layer_contents(layer: Layer) -> dict[str, Any]:
    attest = parse_quote(layer.quote.attest)
    events = [
        {"pcr": one.pcr, "digest": one.digest.hex(), "description": one.described}
        for one in parse_event_log(layer.event_log)
    ]
    files = [
        {"path": one.path, "digest": one.digest.hex(), "violation": one.violation}
        for one in parse_ima_list(layer.ima_list)
    ]
    return {
        "name": layer.name,
        "reset_count": attest.counters.reset_count,
        "clock_ms": attest.counters.clock,
        "firmware_version": f"{attest.counters.firmware_version:#x}",
        "pcr_digest": attest.pcr_digest.hex(),
        "events": events,
        "files": files,
    }


def _load(path: Path) -> EvidenceBundle:
    return EvidenceBundle.parse(_read(path))


def _load_anchors(path: Path) -> Anchors:
    try:
        return Anchors.from_json(json.loads(_read(path)))
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, AuthnError) as error:
        raise BundleError(
            "bad-anchors",
            f"{path}: expected {{ek_roots: [PEM], reference_keys: {{id: hex}}, profile}}, see docs/evidence.md: {error}",
        ) from error


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise GatewayError("unreadable", f"{path}: {error.strerror}") from error
