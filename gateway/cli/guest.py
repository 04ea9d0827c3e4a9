"""`quotegate guest`: issue what a machine needs that no lab starts, and make the authority behind it."""

import argparse
import datetime as dt
import json
import time
import uuid
from ipaddress import IPv4Address
from pathlib import Path

from authn.errors import TpmError
from authn.portmap import KIND as PORT_MAP
from authn.portmap import PortEntry, PortMap
from authn.reference import KIND as REFERENCES
from authn.reference import ReferenceSet
from authn.signing import verify_document
from authn.tpm import Tpm, TpmIdentity
from gateway.cli.exits import EXIT_OK
from gateway.cli.output import say, show_json
from gateway.errors import GatewayError
from gateway.setup import GatewaySetup, read_json
from vmhost.issue.authority import Authority
from vmhost.issue.directory import new_directory, write_files
from vmhost.issue.ek import read_ek
from vmhost.issue.guest import GatewayFiles, HostSide, Machine, SignedSet, fingerprint, issue
from vmhost.issue.new_tpm import make_tpm
from vmhost.issue.peer_setup import CERTIFICATE, Gateway
from vmhost.issue.steps import FILE, Issued, steps
from vmhost.lab.provisioning import LabPaths
from vmhost.names import GATEWAY, Lab
from vmhost.spec import mac_of


def authority(arguments: argparse.Namespace) -> int:
    """Make an authority: a CA for TPMs, and a key that signs port maps and reference sets."""
    made = Authority.create(arguments.name, dt.datetime.now(dt.UTC), arguments.days)
    made.store(arguments.directory)
    said = {"directory": str(arguments.directory), "keys": made.public_keys}
    show_json(said) if arguments.json else say(
        f"{arguments.directory}: signs as {', '.join(made.public_keys)}; keep it off every machine that it vouches for\n"
        f"next: quotegate image sign IMAGE --key {arguments.directory}/signing.key --version 1 -o references.json"
    )
    return EXIT_OK


def issue_guest(arguments: argparse.Namespace) -> int:
    """Issue a machine's files, its gateway's and its host's into a new directory."""
    place = _place(arguments)
    setup_file = arguments.setup or LabPaths(Lab(arguments.lab)).gateway_setup
    setup = GatewaySetup.load(setup_file)
    vouching = Authority.load(arguments.authority)
    known = _known(setup_file, setup)
    own = _own_set(arguments.references, setup, vouching)
    gateway = PortEntry(GATEWAY, arguments.gateway_port, setup.mac, setup.ip, str(uuid.uuid4()))
    with new_directory(arguments.out) as out:
        if arguments.new_tpm is not None:
            ek = make_tpm(place.peer, out / "tpm", arguments.new_tpm).ek_public
        else:
            ek = read_ek(arguments.ek)
        machine = Machine(place, arguments.image, ek, own, arguments.again)
        host = HostSide(arguments.bridge, gateway)
        files = issue(machine, known, host, vouching, dt.datetime.now(dt.UTC), arguments.days)
        certificate = fingerprint(files[f"guest/{CERTIFICATE}"])
        has_tpm = arguments.new_tpm is not None
        text = steps(Issued(place, arguments.out.absolute(), known.directory, certificate, has_tpm))
        write_files(out, {**files, FILE: text.encode()})
    said = {"directory": str(arguments.out), "peer": place.peer, "uuid": place.uuid, "ek": certificate}
    show_json(said) if arguments.json else say(f"{arguments.out}: issued for {place.peer}\n{text}".rstrip())
    return EXIT_OK


def _place(arguments: argparse.Namespace) -> PortEntry:
    try:
        ip = IPv4Address(arguments.ip)
        name = str(uuid.UUID(arguments.uuid)) if arguments.uuid else str(uuid.uuid4())
    except ValueError as error:
        raise GatewayError(
            "bad-place", f"{arguments.name}: checked --ip and --uuid: expected such as 10.0.0.2, got: {error}"
        ) from error
    return PortEntry(arguments.name, arguments.port, arguments.mac or mac_of(ip), ip, name)


def _known(path: Path, setup: GatewaySetup) -> GatewayFiles:
    """Read and check what the setup file names; raises GatewayError, AuthnError."""
    try:
        portmap = verify_document(setup.portmap.read_bytes(), PORT_MAP, setup.portmap_keys, time.time())
        names = (*setup.references, *([setup.own_references] if setup.own_references else []))
        sets = tuple(_signed_set(name.read_bytes(), setup.reference_keys) for name in names)
        roots = tuple(name.read_bytes() for name in setup.ek_roots)
    except OSError as error:
        raise GatewayError(
            "unreadable",
            f"{error.filename}: reading what {path} names: expected a file, got: {error.strerror}; "
            "run this where the gateway's files are",
        ) from error
    keys = {name: public.hex() for name, public in setup.reference_keys.items()}
    gateway = Gateway(
        setup.gateway_id,
        str(setup.ip),
        setup.control_port,
        _keys(path, setup.tpm),
        setup.gateway_profile,
        keys,
    )
    return GatewayFiles(
        setup.platform,
        read_json(path),
        path.absolute().parent,
        gateway,
        frozenset(setup.administrator_keys),
        roots,
        PortMap.from_document(portmap),
        sets,
    )


def _keys(path: Path, tpm: str) -> TpmIdentity:
    """Ask the gateway's TPM itself for its keys: machines get them from here, and trust them from then on."""
    try:
        with Tpm(tpm) as one:
            return one.provision()
    except TpmError as error:
        raise GatewayError(
            "tpm-away",
            f"{path}: asked the gateway's TPM for its keys: expected an answer at {tpm}, got: {error.message}; "
            "run this as root on the gateway's machine, while it runs",
        ) from error


def _own_set(path: Path | None, setup: GatewaySetup, vouching: Authority) -> SignedSet | None:
    if path is None:
        return None
    ours = {name: bytes.fromhex(public) for name, public in vouching.public_keys.items()}
    try:
        return _signed_set(path.read_bytes(), setup.reference_keys | ours)
    except OSError as error:
        raise GatewayError(
            "unreadable",
            f"{path}: expected what quotegate image sign wrote, got: {error.strerror}; name it with --references",
        ) from error


def _signed_set(content: bytes, keys: dict[str, bytes]) -> SignedSet:
    document = verify_document(content, REFERENCES, keys, time.time())
    return SignedSet(content, str(json.loads(content)["key"]), ReferenceSet.from_document(document))
