"""Declare the words of the `quotegate` command: what there is to say, and an example of each."""

import argparse
import importlib
from collections.abc import Callable
from pathlib import Path

from gateway.cli.examples import EXAMPLES as EXAMPLES_OF

EXAMPLES = """examples:
  quotegate lab up                              bring up a gateway and the peers web, db, ops
  quotegate authority grant --for 8h            permit guests to talk at all
  quotegate peers                               see who is trusted, and why not
  quotegate explain web db tcp/5432             what would happen, and what to do
  quotegate lab exec web -- quotegate-agent connect db tcp/5432 < file
  quotegate lab tamper web; quotegate events --follow
  quotegate lab down

exit status: 0 done, 1 error, 2 wrong usage, 3 denied or refused, 4 a check found something
"""
Command = Callable[[argparse.Namespace], int]


def _call(module: str, function: str) -> Command:
    def run(arguments: argparse.Namespace) -> int:
        return int(getattr(importlib.import_module(f"gateway.cli.{module}"), function)(arguments))

    return run


class _Version(argparse.Action):
    """Print what is installed; looked up only when somebody asks, for the command must start fast."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """See argparse.Action."""
        version = importlib.import_module("importlib.metadata").version("quotegate")
        importlib.import_module("gateway.cli.output").say(f"quotegate {version}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Declare every command with its help."""
    parser = argparse.ArgumentParser(
        prog="quotegate",
        description="Operate a Quotegate gateway.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version, and end")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--lab", default="lab", help="which lab (default: lab)")
    common.add_argument("--json", action="store_true", help="print JSON")

    def add(
        where: "argparse._SubParsersAction[argparse.ArgumentParser]", name: str, command: Command, text: str
    ) -> argparse.ArgumentParser:
        sub = where.add_parser(
            name,
            help=text,
            description=text,
            parents=[common],
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        examples = EXAMPLES_OF[sub.prog.removeprefix("quotegate ")]
        sub.epilog = "\n  ".join(["examples:", *(f"quotegate {one}" for one in examples)])
        sub.set_defaults(run=command)
        return sub

    def group(name: str, text: str) -> "argparse._SubParsersAction[argparse.ArgumentParser]":
        return commands.add_parser(name, help=text, description=text).add_subparsers(
            dest="verb", required=True, metavar="VERB"
        )

    _add_operate(commands, add)
    _add_inspect(
        add(
            commands,
            "inspect",
            _call("inspect", "inspect"),
            "inspect a capture or a file, as the gateway would",
        )
    )
    _add_fingerprint(group("fingerprint", "recognise protected documents in transit"), add)
    add(commands, "doctor", _call("doctor.main", "doctor"), "examine this machine and say how to mend it")
    _add_rules(group("rules", "your own rule sets"), add)
    _add_policy(group("policy", "check, plan, apply and take back policies"), add)
    _add_peer(group("peer", "act on one peer"), add)
    _add_session(group("session", "act on one session"), add)
    _add_authority(group("authority", "the administrator's authority"), add)
    _add_audit(group("audit", "the audit record"), add)
    _add_evidence(group("evidence", "what a peer proved, for anybody to verify"), add)
    completion = add(
        commands, "completion", _call("completion", "completion"), "print a shell's completion script"
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    _add_update(group("update", "the image that the gateway runs"), add)
    _add_image(group("image", "images of virtual machines, and what they measure"), add)
    _add_guest(group("guest", "machines of your own behind the gateway"), add)
    _add_lab(group("lab", "the platform on one machine, namespaces as guests"), add)
    return parser


Add = Callable[
    ["argparse._SubParsersAction[argparse.ArgumentParser]", str, Command, str], argparse.ArgumentParser
]


def _add_operate(commands: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    add(commands, "status", _call("operate", "status"), "sum up the gateway")
    add(commands, "peers", _call("operate", "peers"), "list the peers and their states")
    add(commands, "sessions", _call("operate", "sessions"), "list the live sessions")
    events = add(commands, "events", _call("operate", "events"), "print recorded events")
    events.add_argument("--follow", action="store_true", help="go on with new events")
    events.add_argument("--after", type=int, default=0, help="begin after this number")
    explain = add(
        commands, "explain", _call("operate", "explain_flow"), "explain what would happen to a flow"
    )
    explain.add_argument(
        "flow",
        nargs="*",
        help="FROM TO SERVICE (web db tcp/5432), or ADDRESS[:PORT] ADDRESS:PORT tcp|udp|icmp",
    )
    explain.add_argument("--event", type=int, help="a recorded flow, by its event's number")


def _add_rules(rules: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    check = add(rules, "check", _call("rules", "check"), "say which rules can be used")
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file of Suricata rules")
    _add_variables(check)


def _add_session(session: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    cut = add(session, "cut", _call("operate", "cut_session"), "cut it now")
    cut.add_argument("session", help="a session_id of: quotegate sessions")


def _add_authority(authority: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    add(authority, "show", _call("authority", "show"), "show what is in force")
    add(authority, "revoke", _call("authority", "revoke"), "withdraw it: all guest-to-guest traffic ends")
    grant = add(authority, "grant", _call("authority", "grant"), "sign and hand in a grant")
    grant.add_argument("--for", dest="duration", default="8h", help="how long (default: 8h)")
    grant.add_argument("--key", type=Path, help="the administrator's key file (default: the lab's)")


def _add_audit(audit: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    verify = add(audit, "verify", _call("operate", "audit_verify"), "verify the audit record")
    verify.add_argument(
        "--head", action="append", help="a head somebody remembers (JSON file; default: the lab's peers')"
    )
    export = add(audit, "export", _call("audit", "export"), "copy the signed record into a new file")
    export.add_argument("file", help="where to (JSON lines)")
    prune = add(audit, "prune", _call("audit", "prune"), "take away from the gateway what an export has")
    prune.add_argument("file", help="the export")


def _add_policy(policy: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    check = add(policy, "check", _call("policy", "check"), "check a policy file")
    plan = add(policy, "plan", _call("policy", "plan"), "say what a policy file would change")
    plan.add_argument("--ruleset", action="store_true", help="print the elements of the ruleset that change")
    apply = add(policy, "apply", _call("policy", "apply"), "put a policy file in force")
    apply.add_argument(
        "--confirm", metavar="TIME", help="return by itself unless confirmed in time, such as 60s"
    )
    replay = add(policy, "replay", _call("policy", "replay"), "run recorded flows against a policy file")
    replay.add_argument("--hours", type=float, default=24.0, help="how far back (default: 24)")
    for command in (check, plan, apply, replay):
        command.add_argument("file", type=Path)
    add(policy, "confirm", _call("policy", "confirm"), "keep the policy that is on probation")
    add(policy, "history", _call("policy", "history"), "list the policies that were in force")
    rollback = add(policy, "rollback", _call("policy", "rollback"), "put an earlier policy back in force")
    show = add(policy, "show", _call("policy", "show"), "print the policy in force, or an earlier one")
    for command in (rollback, show):
        command.add_argument("revision", nargs="?", help="a number or hash of: quotegate policy history")


def _add_peer(peer: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    texts = {
        "enroll": "approve a TPM beforehand by its EK certificate",
        "approve": "approve a TPM that has asked",
        "forget": "unpin its TPM and place: another may be enrolled",
        "restart": "restart the machine",
        "quarantine": "keep the machine out",
        "release": "end a quarantine",
    }
    for action, text in texts.items():
        sub = add(peer, action, _call("operate", "peer_action"), text)
        sub.add_argument("name")
        sub.set_defaults(action=action)
        if action == "enroll":
            sub.add_argument("--ek", required=True, help="sha256:… of the EK certificate (DER)")


def _add_evidence(evidence: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    save = add(evidence, "save", _call("evidence", "save"), "write a peer's evidence to a file")
    save.add_argument("peer")
    save.add_argument("--refused", action="store_true", help="that of its last refused handshake")
    save.add_argument("-o", "--output", type=Path, help="the file (default: PEER-evidence.json)")
    show = add(evidence, "show", _call("evidence", "show"), "print what a file contains")
    verify = add(evidence, "verify", _call("evidence", "verify"), "verify a file, without any gateway")
    verify.add_argument(
        "--anchors", type=Path, help="whom you trust (docs/evidence.md; default: the file itself)"
    )
    anchors = add(evidence, "anchors", _call("evidence", "anchors"), "print whom a file's gateway trusts")
    for command in (show, verify, anchors):
        command.add_argument("file", type=Path)


def _add_update(update: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    check = add(update, "check", _call("update", "check"), "check an update against what is in force")
    apply = add(update, "apply", _call("update", "apply"), "try an update; it falls back by itself")
    rollback = add(update, "rollback", _call("update", "rollback"), "try the image that was in force before")
    for command in (check, apply):
        command.add_argument("directory", type=Path, help="what `quotegate image bundle` wrote")
    for command in (apply, rollback):
        command.add_argument("--tries", type=int, default=2, help="before it falls back (default: 2)")
        command.add_argument(
            "--within",
            metavar="TIME",
            default="4m",
            help="how long a try may take, self-test included (default: 4m)",
        )
    add(update, "status", _call("update", "status"), "show both slots")
    add(
        update,
        "commit",
        _call("update", "commit"),
        "let the TPM open the state to no older image: no way back",
    )


def _add_image(image: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    out = Path(__file__).parents[2] / "build" / "image"
    build = add(image, "build", _call("image", "build"), "build images from their recipes")
    check = add(image, "check", _call("image", "check"), "build images once more and compare")
    sign = add(image, "sign", _call("image", "sign"), "write an image's signed reference set")
    bundle = add(image, "bundle", _call("image", "bundle"), "write a signed update of the gateway's image")
    for command in (build, check):
        command.add_argument(
            "images", nargs="+", metavar="IMAGE", help="a recipe below appliance-image, as guest"
        )
    for command in (sign, bundle):
        command.add_argument("image", help="the image's name, for example guest")
    for command in (build, check, sign, bundle):
        command.add_argument("--out", type=Path, default=out, help="where images are (default: build/image)")
    sign.add_argument("--key", type=Path, required=True, help="the signing key: a file with 64 hex digits")
    sign.add_argument("--version", type=int, required=True, help="of the reference set: higher is newer")
    sign.add_argument("--days", type=float, default=90.0, help="how long it is valid (default: 90)")
    sign.add_argument("-o", "--output", type=Path, required=True, help="the reference set to write")
    deb = add(image, "deb", _call("image", "deb"), "build the agent's Debian package, for your own guests")
    deb.add_argument("--out", type=Path, default=out.parent, help="where it goes (default: build)")
    describe = add(
        image, "describe", _call("image", "describe"), "describe a guest of your own, to be signed"
    )
    describe.add_argument("image", help="what to call it")
    describe.add_argument("--uki", type=Path, required=True, help="the unified kernel image that it boots")
    describe.add_argument("--root", type=Path, required=True, help="where its root file system is mounted")
    describe.add_argument("--out", type=Path, default=out, help="where images are (default: build/image)")
    bundle.add_argument("--key", type=Path, help="the administrator's key file (default: the lab's)")
    bundle.add_argument(
        "--authority",
        type=Path,
        help="the key that approves images to the TPM: 64 hex digits (default: the lab's)",
    )
    bundle.add_argument("--version", type=int, required=True, help="of the image: higher is newer")
    bundle.add_argument("--days", type=float, default=90.0, help="how long it may be applied (default: 90)")
    bundle.add_argument("-o", "--output", type=Path, required=True, help="the directory to make")
    predict = add(image, "predict", _call("image", "predict"), "compute the PCRs that an image leads to")
    predict.add_argument("uki", type=Path, help="a unified kernel image")


def _add_guest(guest: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    authority = add(
        guest, "authority", _call("guest", "authority"), "make the authority that vouches for them"
    )
    authority.add_argument("directory", type=Path, help="where it is kept; a new one, root's alone")
    authority.add_argument(
        "--name",
        default="Quotegate guests TPM CA",
        help="what its CA is called (default: Quotegate guests TPM CA)",
    )
    authority.add_argument("--days", type=int, default=3650, help="how long the CA is valid (default: 3650)")
    issue = add(
        guest, "issue", _call("guest", "issue_guest"), "issue what one machine, its gateway and its host need"
    )
    issue.add_argument("name", help="what the gateway calls it")
    issue.add_argument("--ip", required=True, help="its address, pinned")
    issue.add_argument(
        "--port", required=True, help="its interface at the host's bridge, for example its tap"
    )
    issue.add_argument("--mac", help="pinned as well (default: one made from the address)")
    issue.add_argument("--uuid", help="the machine's (default: a fresh one)")
    issue.add_argument("--image", required=True, help="what it runs, as `quotegate image describe` was told")
    issue.add_argument(
        "--references",
        type=Path,
        metavar="FILE",
        help="the image's signed reference set, where the gateway has none with it yet",
    )
    tpm = issue.add_mutually_exclusive_group(required=True)
    tpm.add_argument(
        "--ek",
        type=Path,
        metavar="FILE",
        help="its TPM's endorsement key: what `quotegate-agent identity` prints in it",
    )
    tpm.add_argument(
        "--new-tpm", type=int, metavar="UID", help="make a TPM for it, for a swtpm that runs as this uid"
    )
    issue.add_argument(
        "--again",
        action="store_true",
        help="for a machine that the gateway's map has: it moved, or its time is up",
    )
    issue.add_argument(
        "--authority", type=Path, required=True, metavar="DIRECTORY", help="who vouches for it"
    )
    issue.add_argument(
        "--setup", type=Path, metavar="FILE", help="the gateway's setup file (default: the lab's)"
    )
    issue.add_argument("--bridge", default="br0", help="the host's bridge (default: br0)")
    issue.add_argument(
        "--gateway-port", default="gateway0", help="the gateway's interface there (default: gateway0)"
    )
    issue.add_argument(
        "--days", type=int, default=365, help="how long certificate and map are valid (default: 365)"
    )
    issue.add_argument(
        "--out", type=Path, required=True, metavar="DIRECTORY", help="a new directory to write to"
    )


def _add_lab(lab: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    up = add(
        lab,
        "up",
        _call("lab", "up"),
        "bring the lab up; what is left of an earlier one of the same name is cleared first, but not virtual machines' state",
    )
    up.add_argument(
        "--discard",
        action="store_true",
        help="end this lab where it runs, and delete the state that its virtual machines left",
    )
    up.add_argument("--peers", type=int, default=3, help="how many peers without --policy (default: 3)")
    up.add_argument("--days", type=int, default=30, help="how long what is signed for it holds (default: 30)")
    up.add_argument("--policy", type=Path, help="a policy; its peers become the lab's")
    up.add_argument(
        "--ask-approval", action="store_true", help="let every TPM wait for: quotegate peer approve NAME"
    )
    up.add_argument(
        "--inspectors",
        type=int,
        choices=range(1, 9),
        default=1,
        help="inspectors of content side by side (default: 1); a gateway's VM gets a processor more than that",
    )
    up.add_argument(
        "--vm", action="store_true", help="let the guests be virtual machines: quotegate image build guest"
    )
    up.add_argument(
        "--gateway",
        choices=("vm", "namespace"),
        default="vm",
        help="with --vm: what the gateway is (default: vm)",
    )
    down = add(lab, "down", _call("lab", "down"), "take the lab down, and delete its state")
    down.add_argument(
        "--keep", action="store_true", help="keep virtual machines' state, for: quotegate lab resume"
    )
    again = (
        "start a lab's virtual machines again with the state they left: after the host's restart, or --keep"
    )
    add(lab, "resume", _call("lab", "resume"), again)
    add(lab, "status", _call("lab", "lab_status"), "show machines and processes")
    tamper = add(
        lab, "tamper", _call("lab", "tamper"), "change a peer behind its back: PCR 10, or what a VM runs"
    )
    tamper.add_argument("peer")
    tamper.add_argument(
        "--with", dest="what",
        choices=("program", "kernel", "initrd", "command-line", "debug-shell", "agent", "boot-options", "boot", "firmware", "root"),
        help="of a VM: run a foreign program (default), or alter what it starts from (root: the gateway's)",
    )  # fmt: skip
    replace = "start a fresh inspector; the former ends with its last connection"
    add(lab, "replace-inspector", _call("lab", "replace_inspector"), replace)
    execute = add(lab, "exec", _call("lab", "exec_in"), "run a command in a peer")
    execute.add_argument("peer")
    execute.add_argument("argv", nargs=argparse.REMAINDER, help="-- COMMAND …")
    demo = add(lab, "demo", _call("demo.main", "demo"), "run the main job, step by step, in a lab of its own")
    demo.add_argument("--seed", type=int, help="repeat an earlier run")
    demo.add_argument("--vm", action="store_true", help="with virtual machines, which boot the built images")
    for command in (up, demo):
        command.add_argument(
            "--images",
            type=Path,
            default=Path("build/image"),
            help="where the images are (default: build/image)",
        )


def _add_variables(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--var",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the rules, as HOME_NET=10.0.0.0/8",
    )


def _add_inspect(inspect: argparse.ArgumentParser) -> None:
    inspect.add_argument("capture", nargs="?", type=Path, help="a pcap or pcapng file")
    inspect.add_argument("--file", type=Path, metavar="PATH", help="inspect one file as an object in transit")
    inspect.add_argument(
        "--detectors",
        default="secrets,personal,malware",
        help="what to look for (default: secrets,personal,malware)",
    )
    inspect.add_argument("--patterns", type=Path, metavar="FILE", help="your own patterns and marks (TOML)")
    inspect.add_argument("--yara", type=Path, metavar="DIRECTORY", help="your own YARA rules (*.yar)")
    inspect.add_argument(
        "--rules", type=Path, metavar="FILE", action="append", default=[], help="your own Suricata rules"
    )
    _add_variables(inspect)
    inspect.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="inspect each flow of a capture as this policy's rules say",
    )
    inspect.add_argument("--clamd", type=Path, metavar="SOCKET", help="ask this clamd as well")
    inspect.add_argument(
        "--fingerprints", type=Path, metavar="PATH", help="a set that `quotegate fingerprint add` made"
    )
    inspect.add_argument(
        "--flows",
        action="store_true",
        help="tell of each flow of a capture what it spoke: hosts, TLS names, versions and JA4, SSH banners",
    )
    inspect.add_argument("--check", action="store_true", help="exit 4 when something is found")


def _add_fingerprint(fingerprint: "argparse._SubParsersAction[argparse.ArgumentParser]", add: Add) -> None:
    new = add(fingerprint, "add", _call("fingerprint", "add"), "add documents to a set; a new set is made")
    new.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a document; archives are opened")
    new.add_argument("--name", help="what findings call it (default: the file's name)")
    new.add_argument(
        "--common",
        action="store_true",
        help="a harmless file (a letterhead, a licence): what is in it implicates no document",
    )
    listed = add(fingerprint, "list", _call("fingerprint", "list_documents"), "list the documents of a set")
    remove = add(fingerprint, "remove", _call("fingerprint", "remove"), "remove a document from a set")
    remove.add_argument("name")
    for command in (new, listed, remove):
        command.add_argument(
            "--set",
            type=Path,
            default=Path("fingerprints.qgp"),
            metavar="PATH",
            help="the set's file, or its directory (default: fingerprints.qgp)",
        )
