"""Issue what one machine needs: its own files, the gateway's, the host's. Pure: bytes by name, nothing is written."""

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

from authn.ek_certificate import CertificateAuthority
from authn.portmap import PortEntry, PortMap
from authn.reference import ReferenceSet
from vmhost.antispoof_rules import compile_antispoof
from vmhost.errors import HostError
from vmhost.image.references import PCRS, files_name, profile_for, value_name
from vmhost.issue.authority import Authority
from vmhost.issue.peer_setup import CERTIFICATE, REFERENCES, SETUP, Gateway, machine_places, peer_setup
from vmhost.issue.policy_text import ON_FAIL_CUT, peer_text, profile_text
from vmhost.signing_key import end_of
from vmhost.topology import guest_port_text
from vmhost.vm.spec import INTERFACE

# where the Debian package has its settings and its state
SETTINGS, STATE = PurePosixPath("/etc/quotegate-agent"), PurePosixPath("/var/lib/quotegate-agent")


@dataclass(frozen=True, slots=True)
class SignedSet:
    """A reference set whose signature was checked, with the id of the key that made it."""

    content: bytes
    key: str
    values: ReferenceSet


@dataclass(frozen=True, slots=True)
class GatewayFiles:
    """A gateway as its setup file describes it; everything signed in it was checked."""

    platform: str
    setup: Mapping[str, Any]
    directory: Path  # where its setup file lies
    gateway: Gateway  # with every key that may sign reference values
    administrator_keys: frozenset[str]
    roots: tuple[bytes, ...]
    portmap: PortMap
    references: tuple[SignedSet, ...]


@dataclass(frozen=True, slots=True)
class HostSide:
    """How the host's bridge is named, and where the gateway is at it."""

    bridge: str
    gateway: PortEntry


@dataclass(frozen=True, slots=True)
class Machine:
    """The machine to issue for: where it stands, what it runs, its TPM."""

    place: PortEntry
    image: str
    ek_public: bytes
    own: SignedSet | None  # a set with its image's values that the gateway does not have yet
    again: bool = False  # the gateway's map has it already: this takes the place of that


def issue(
    machine: Machine, known: GatewayFiles, host: HostSide, authority: Authority, now: dt.datetime, days: int
) -> dict[str, bytes]:
    """Return the files by path, below `guest/`, `gateway/` and `host/`; raises HostError, DocumentError."""
    place = machine.place
    not_after = end_of(days, now.timestamp())
    others = _others(machine, known)
    _check_interfaces(place, host)
    _check_place(place, others, host)
    _check_references(machine, known)
    own = tuple(one for one in known.references if _proves(one, known.gateway.profile.references.values()))
    if not own:
        raise HostError(
            "no-reference-values",
            f"{place.peer}: looked for the gateway's own reference values, by which it is judged: expected a set with "
            f"{', '.join(known.gateway.profile.references.values())}, got none; name it in the gateway's setup",
        )
    certificate = authority.ca.issue(machine.ek_public, place.peer, place.uuid, now, days)
    portmap = PortMap(known.portmap.version + 1, (*others, place))
    return {
        **{f"guest/{name}": data for name, data in _guest_files(machine, known, own, certificate).items()},
        **{
            f"gateway/{name}": data
            for name, data in _gateway_files(machine, known, authority, portmap, not_after).items()
        },
        "host/antispoof.nft": compile_antispoof(host.gateway, portmap.entries).encode(),
        "host/port.sh": f"#!/bin/sh\nset -e\n{guest_port_text(host.bridge, place)}".encode(),
    }


def fingerprint(certificate: bytes) -> str:
    """Name a certificate as gateways do."""
    return "sha256:" + hashlib.sha256(certificate).hexdigest()


def _others(machine: Machine, known: GatewayFiles) -> tuple[PortEntry, ...]:
    others = tuple(one for one in known.portmap.entries if one.peer != machine.place.peer)
    if machine.again and len(others) == len(known.portmap.entries):
        raise HostError(
            "unknown-peer",
            f"{machine.place.peer}: looked for it in the gateway's port map, to issue anew: expected one of "
            f"{', '.join(one.peer for one in others)}; without --again it is issued for the first time",
        )
    return others if machine.again else known.portmap.entries


def _check_interfaces(place: PortEntry, host: HostSide) -> None:
    """Refuse what would be something else in a shell script, in rules or in a policy."""
    for what, name in (("port", place.port), ("bridge", host.bridge), ("gateway-port", host.gateway.port)):
        if not INTERFACE.fullmatch(name):
            raise HostError(
                "bad-place",
                f"{place.peer}: checked --{what}: expected an interface's name, at most 15 of A-Z, a-z, 0-9 and _.-, got "
                f"{name!r}; correct it",
            )


def _check_place(place: PortEntry, others: tuple[PortEntry, ...], host: HostSide) -> None:
    for what in ("peer", "port", "mac", "ip"):
        if getattr(place, what) == getattr(host.gateway, what):
            raise HostError(
                "taken",
                f"{place.peer}: checked its {what}: expected one that is free, got the gateway's own, "
                f"{getattr(place, what)}; choose another",
            )
        for other in others:
            if getattr(place, what) == getattr(other, what):
                raise HostError(
                    "taken",
                    f"{place.peer}: checked its {what} in the gateway's port map: expected one that is free, got "
                    f"{getattr(place, what)}, which {other.peer} has; choose another"
                    f"{', or issue it anew with --again' if what == 'peer' else ''}",
                )


def _check_references(machine: Machine, known: GatewayFiles) -> None:
    wanted = _values_of(machine.image)
    offered = [machine.own] if machine.own else known.references
    if not any(_proves(one, wanted) for one in offered):
        where = "the set that was named" if machine.own else "the gateway's sets"
        raise HostError(
            "no-reference-values",
            f"{machine.place.peer}: looked in {where} for what {machine.image} measures: expected {', '.join(wanted)}, "
            f"got {_found(offered)}; next: quotegate image describe {machine.image}, quotegate image sign "
            f"{machine.image} -o references.json, then again with --references references.json",
        )


def _values_of(image: str) -> tuple[str, ...]:
    return (*(value_name(image, pcr) for pcr in PCRS), files_name(image))


def _found(sets: Iterable[SignedSet]) -> str:
    return ", ".join(sorted({name for one in sets for name in one.values.values})) or "nothing"


def _proves(one: SignedSet, names: Iterable[str]) -> bool:
    return set(names) <= set(one.values.values)


def _guest_files(
    machine: Machine, known: GatewayFiles, own: tuple[SignedSet, ...], certificate: bytes
) -> dict[str, bytes]:
    """Tell the guest of the gateway's sets alone, and of the keys behind them and behind the image's updates."""
    names = [REFERENCES, *(f"references-{number}.json" for number in range(2, len(own) + 1))]
    needed = {one.key for one in own} | known.administrator_keys
    keys = {name: public for name, public in known.gateway.reference_keys.items() if name in needed}
    setup = peer_setup(
        f"{known.platform}/{machine.place.peer}",
        profile_for(machine.image),
        replace(known.gateway, reference_keys=keys),
        machine_places(SETTINGS, STATE, names),
    )
    signed = {name: one.content for name, one in zip(names, own, strict=True)}
    return {SETUP: _json(setup), CERTIFICATE: certificate, **signed}


def _gateway_files(
    machine: Machine, known: GatewayFiles, authority: Authority, portmap: PortMap, not_after: float
) -> dict[str, bytes]:
    """Write the gateway's setup anew, with what it has not got yet; each new file has a name of its own."""
    setup, at = dict(known.setup), known.directory
    files = {f"portmap-{portmap.version}.json": portmap.sign(not_after, authority.signer)}
    setup["portmap"] = str(at / next(iter(files)))
    setup["portmap_keys"] = {**setup["portmap_keys"], **authority.public_keys}
    if authority.ca.root_pem() not in known.roots:
        files[root_name(authority.ca)] = authority.ca.root_pem()
        setup["ek_roots"] = [*setup["ek_roots"], str(at / root_name(authority.ca))]
    if machine.own and machine.own.content not in {one.content for one in known.references}:
        name = f"references-{machine.image}-{machine.own.values.version}.json"
        files[name] = machine.own.content
        setup["references"] = [*setup["references"], str(at / name)]
        added = {name: key for name, key in authority.public_keys.items() if name == machine.own.key}
        setup["reference_keys"] = {**setup["reference_keys"], **added}
    peer = peer_text(machine.place, machine.image)
    profile = profile_text(profile_for(machine.image), ON_FAIL_CUT)
    policy = f"# the profile once, for all machines with this image\n{profile}{peer}"
    return {**files, SETUP: _json(setup), f"policy-{machine.place.peer}.toml": policy.encode()}


def root_name(authority: CertificateAuthority) -> str:
    """Name a CA's file after its certificate: those of two authorities lie side by side."""
    return f"ek_ca-{hashlib.sha256(authority.root_pem()).hexdigest()[:8]}.pem"


def _json(data: Mapping[str, Any]) -> bytes:
    return json.dumps(data, indent=1).encode() + b"\n"
