"""`quotegate lab`: the platform on one machine, with network namespaces or virtual machines as guests."""

import argparse
import os
import sys
import time
from dataclasses import replace
from ipaddress import IPv4Network
from pathlib import Path

from filters.policy.parser import parse_policy
from gateway.agent.main import SOCKET_VARIABLE
from gateway.cli.client import ApiClient, ApiError
from gateway.cli.command import of_lab
from gateway.cli.exits import EXIT_OK
from gateway.cli.operate import read_text
from gateway.cli.output import say, show_json, table
from gateway.cli.vm import alter_image, exec_in_vm, is_vm, run_foreign_program
from gateway.errors import GatewayError
from gateway.policy.holder import check_quote_ages, check_references
from vmhost.commands import in_namespace, run
from vmhost.lab.defaults import default_spec, make_spec, place, vm_spec
from vmhost.lab.kept import is_kept, load_spec, noted_off, spec_file
from vmhost.lab.provisioning import PEER_PROFILE
from vmhost.lab.renewal import valid_until
from vmhost.lab.setup import PROJECT, bring_back, bring_up, demand_root, is_up
from vmhost.lab.tamper import Alteration
from vmhost.lab.teardown import tear_down
from vmhost.measured_boot import profile_for
from vmhost.monitor.client import ask, way_up
from vmhost.names import Lab
from vmhost.signing_key import check_days
from vmhost.spec import BEACON_INTERVAL_MS, LabSpec
from vmhost.topology import namespaces_of

TAMPER_PCR = 10
MAX_VMS = 8
PROGRAM = "program"
TRUSTED_WITHIN_S, LOOK_EVERY_S = 20.0, 0.1


def spec_from(lab: Lab, count: int, policy: Path | None) -> LabSpec:
    """Describe the lab: from a policy's peers, or the default one."""
    if policy is None:
        if not 2 <= count <= 200:
            raise GatewayError("bad-count", f"--peers must be from 2 to 200, got {count}")
        return default_spec(lab, count)
    parsed = parse_policy(read_text(policy), str(policy))
    check_quote_ages(parsed, BEACON_INTERVAL_MS)
    check_references(parsed, [set(profile_for(PEER_PROFILE).references.values())])
    if not parsed.peers:
        raise GatewayError("no-peers", f"{policy}: a lab needs at least one [peer.NAME]")
    peers = [place(peer.name, peer.ip, peer.port, peer.mac) for peer in parsed.peers.values()]
    network = IPv4Network((peers[0].ip, 24), strict=False)
    if any(peer.ip not in network or peer.ip == network[1] for peer in peers):
        raise GatewayError(
            "bad-addresses", f"{policy}: all peers must be in {network}, and {network[1]} is the gateway's"
        )
    return make_spec(lab, peers, read_text(policy), network)


def vm_spec_from(lab: Lab, count: int, policy: Path | None, images: Path) -> LabSpec:
    """Describe a lab whose guests are virtual machines."""
    if policy is not None:
        raise GatewayError(
            "bad-policy", "--vm brings its own policy up; change it then: quotegate policy apply FILE"
        )
    if not 2 <= count <= MAX_VMS:
        raise GatewayError("bad-count", f"--peers must be from 2 to {MAX_VMS} with --vm, got {count}")
    if not (images / "guest.json").is_file():
        raise GatewayError(
            "no-images", f"{images}: expected guest.json and the images it tells of; build them: make image"
        )
    return vm_spec(lab, images.resolve(), count)


def up(arguments: argparse.Namespace) -> int:
    """Bring the lab up; the state of virtual machines is given up at an operator's word alone."""
    lab = Lab(arguments.lab)
    if is_up(lab) and not arguments.discard:
        keep = is_kept(lab)
        way = f"quotegate lab down{' --keep' if keep else ''} --lab {lab.name}, then {'resume' if keep else 'up'}"
        raise GatewayError(
            "already-up",
            f"lab {lab.name}: expected none that runs, found one; nothing was changed: {way}; or end it with all that it "
            f"recorded: quotegate lab up --discard --lab {lab.name}",
        )
    if is_kept(lab) and not arguments.discard:
        raise GatewayError(
            "state-kept",
            f"{lab.state_dir}: expected no virtual machines' state there, found what lab {lab.name} left (audit record, "
            f"authority, quarantines, TPMs, keys); nothing was changed: go on with it: quotegate lab resume --lab {lab.name}; or "
            f"delete it all: quotegate lab up --discard --lab {lab.name}",
        )
    if arguments.vm:
        spec = vm_spec_from(lab, arguments.peers, arguments.policy, arguments.images)
    else:
        spec = spec_from(lab, arguments.peers, arguments.policy)
    check_days(arguments.days)
    gateway_vm = spec.gateway_vm and arguments.gateway == "vm"
    spec = replace(spec, preapproved=not arguments.ask_approval, inspectors=arguments.inspectors)
    bring_up(replace(spec, gateway_vm=gateway_vm, valid_days=arguments.days))
    _say_up(spec)
    _say_trust(lab)
    of, peer = of_lab(lab.name), spec.peers[0].peer
    agent = f"quotegate lab exec{of} {peer} -- quotegate-agent status"
    say(f"next: quotegate authority grant{of}; quotegate peers{of}; {agent}")
    return EXIT_OK


def resume(arguments: argparse.Namespace) -> int:
    """Start a lab's virtual machines again with the state that is left of them."""
    lab = Lab(arguments.lab)
    if arguments.days is not None:
        check_days(arguments.days)
    spec = bring_back(lab, arguments.days)
    _say_up(spec)
    _say_trust(lab)
    for name, why in noted_off(lab).items():
        say(f"{name} stays off ({why}); start it: quotegate-host vm start {name} --lab {lab.name}")
    say(f"what is signed for it holds until {time.strftime('%Y-%m-%d', time.localtime(valid_until(spec)))}")
    of = of_lab(lab.name)
    say(f"next: quotegate peers{of}; quotegate update status{of}")
    return EXIT_OK


def _say_up(spec: LabSpec) -> None:
    say(f"lab {spec.lab.name} is up: gateway {spec.gateway.ip}, {len(spec.peers)} peers")
    say(
        table([{"peer": one.peer, "ip": one.ip, "mac": one.mac} for one in spec.peers], ("peer", "ip", "mac"))
    )


def _say_trust(lab: Lab) -> None:
    """Wait a while for all peers to prove themselves, or to wait for approval; say which have not."""
    api, until = ApiClient(lab.api_socket), time.monotonic() + TRUSTED_WITHIN_S
    off = noted_off(lab).keys()
    while True:
        try:
            peers = api.get("/v1/peers")["peers"]
        except ApiError as error:  # it may be what an operator has switched off
            say(error.message)
            return
        missing = [one for one in peers if one["state"] != "trusted"]
        pending = [one["name"] for one in missing if one["enrollment"] == "pending"]
        stay = off | {one["name"] for one in missing if one["state"] == "quarantined"}
        if all(one["name"] in stay or one["name"] in pending for one in missing) or time.monotonic() > until:
            break
        time.sleep(LOOK_EVERY_S)
    say(f"{len(peers) - len(missing)} of {len(peers)} peers have proved themselves")
    if missing:
        states = ", ".join(f"{one['name']} is {one['state']}" for one in missing)
        say(f"not yet: {states}; see: quotegate peers --lab {lab.name}")
    if pending:
        say(f"to approve a TPM: quotegate peer approve {pending[0]} --lab {lab.name}")


def down(arguments: argparse.Namespace) -> int:
    """Take the lab down; with --keep the state of virtual machines stays, and where none can be kept nothing is done."""
    demand_root()
    lab = Lab(arguments.lab)
    state = is_kept(lab)
    if arguments.keep and not state and lab.state_dir.exists():
        raise GatewayError(
            "nothing-kept",
            f"{lab.kept_dir}: expected the state of a lab with a virtual gateway, found none, for what else lab {lab.name} has "
            f"can't be started again; nothing was changed: to delete it all: quotegate lab down --lab {lab.name}",
        )
    found = tear_down(lab, keep_state=state and arguments.keep)
    say(f"lab {lab.name} is down" if found else f"there was no lab {lab.name}")
    if state and arguments.keep:
        say(f"its machines' state is kept in {lab.state_dir}: quotegate lab resume --lab {lab.name}")
    elif state:
        say(
            "its machines' state was deleted (audit record, authority, quarantines, TPMs, keys); --keep keeps it"
        )
    return EXIT_OK


def exec_in(arguments: argparse.Namespace) -> int:
    """Run a command in a peer, as its root."""
    demand_root()
    lab = Lab(arguments.lab)
    command = arguments.argv[1:] if arguments.argv[:1] == ["--"] else arguments.argv
    if command is arguments.argv and "--" in command and command[0].startswith("-"):
        ours = " ".join(command[: command.index("--")])
        raise GatewayError(
            "bad-usage",
            f"{ours}: expected our own options before the peer, got them behind it: "
            f"quotegate lab exec {ours} {arguments.peer} -- COMMAND",
        )
    vm = is_vm(lab, arguments.peer)
    if not vm and lab.peer_namespace(arguments.peer) not in namespaces_of(lab):
        raise _no_peer(lab, arguments.peer)
    if not command:
        raise GatewayError("no-command", "say what to run: quotegate lab exec web -- ping -c 1 10.77.0.3")
    if vm:
        return exec_in_vm(lab, arguments.peer, command)
    os.environ[SOCKET_VARIABLE] = str(lab.agent_socket(arguments.peer))
    os.environ["PATH"] = f"{PROJECT / '.venv/bin'}:{os.environ.get('PATH', '/usr/sbin:/usr/bin:/sbin:/bin')}"
    sys.stdout.flush()
    argv = in_namespace(lab.peer_namespace(arguments.peer), command)
    os.execvp(argv[0], argv)  # noqa: S606 - running the user's command is what this is for


def _no_peer(lab: Lab, name: str) -> GatewayError:
    if not is_up(lab):
        return GatewayError(
            "unknown-peer", f"lab {lab.name} is not up, so no peer {name!r} runs: {way_up(lab)}"
        )
    peers = ", ".join(sorted(one.peer for one in load_spec(spec_file(lab.run_dir)).peers))
    return GatewayError(
        "unknown-peer", f"expected a peer of lab {lab.name} that runs ({peers}); got {name!r}"
    )


def tamper(arguments: argparse.Namespace) -> int:
    """Change a peer behind its agent's back: a VM as --with says, a namespace's PCR 10 with an independent tool."""
    demand_root()
    lab = Lab(arguments.lab)
    if is_vm(lab, arguments.peer):
        return _tamper_vm(lab, arguments.peer, arguments.what or PROGRAM)
    if arguments.what:
        raise GatewayError("not-a-vm", f"{arguments.peer} is a namespace: --with is for virtual machines")
    socket = lab.tpm_socket(arguments.peer)
    if not socket.exists():
        raise _no_peer(lab, arguments.peer)
    digest = os.urandom(32).hex()
    run(["tpm2_pcrextend", "-T", f"swtpm:path={socket}", f"{TAMPER_PCR}:sha256={digest}"])
    say(f"{arguments.peer}: PCR {TAMPER_PCR} extended with {digest}")
    return EXIT_OK


def _tamper_vm(lab: Lab, peer: str, what: str) -> int:
    if what == PROGRAM:
        run_foreign_program(lab, peer)
        say(f"{peer}: a program ran that its image does not hold")
    else:
        alter_image(lab, peer, Alteration(what))
        start = f"quotegate peer restart {peer}{of_lab(lab.name)}"
        say(f"{peer}: its {what} is altered; it shows at the next start: {start}")
    return EXIT_OK


def replace_inspector(arguments: argparse.Namespace) -> int:
    """Put a fresh inspector in the place of the one that runs, and lose nothing."""
    ask(Lab(arguments.lab), "replace_inspector")
    say("a fresh inspector is starting; the former one ends with its last connection")
    return EXIT_OK


def lab_status(arguments: argparse.Namespace) -> int:
    """Show the lab's machines and processes."""
    answer = ask(Lab(arguments.lab), "status")
    if arguments.json:
        show_json(answer)
        return EXIT_OK
    rows = [{"machine": "gateway", **_pids(answer["gateway"])}]
    rows += [{"machine": name, **_pids(machine)} for name, machine in answer["peers"].items()]
    say(table(rows, ("machine", "processes")))
    return EXIT_OK


def _pids(machine: dict[str, dict[str, int]]) -> dict[str, str]:
    return {"processes": " ".join(f"{name}({pid})" for name, pid in machine["pids"].items()) or "off"}
