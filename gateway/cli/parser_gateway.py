"""The words about a gateway that runs: its peers, its policy, its record."""

import argparse
from pathlib import Path

from gateway.cli.command import Group, add, group


def add_gateway(commands: "Group[argparse.ArgumentParser]") -> None:
    """Declare them."""
    add(commands, "status", "operate.status", "sum up the gateway")
    add(commands, "peers", "operate.peers", "list the peers and their states")
    add(commands, "sessions", "operate.sessions", "list the live sessions")
    events = add(commands, "events", "events.events", "print recorded events, as lines of text or of JSON")
    events.add_argument("--follow", action="store_true", help="go on with new events")
    events.add_argument("--after", type=int, default=0, help="begin after this number")
    events.add_argument("--last", type=int, metavar="COUNT", help="begin with the newest COUNT of all")
    events.add_argument("--peer", metavar="NAME", help="only what concerns this peer, by name or address")
    events.add_argument(
        "--kind", metavar="EVENT", help="only this event, such as flow-dropped (docs/events.md)"
    )
    events.add_argument("--reason", help="only with this reason, such as no-rule (docs/reasons.md)")
    explain = add(commands, "explain", "operate.explain_flow", "explain what would happen to a flow")
    explain.add_argument(
        "flow",
        nargs="*",
        help="FROM TO SERVICE (web db tcp/5432), or ADDRESS[:PORT] ADDRESS:PORT tcp|udp|icmp",
    )
    explain.add_argument("--event", type=int, help="a recorded flow, by its event's number")
    _add_policy(group(commands, "policy", "check, plan, apply and take back policies"))
    _add_peer(group(commands, "peer", "act on one peer"))
    _add_session(group(commands, "session", "act on one session"))
    _add_authority(group(commands, "authority", "the administrator's authority"))
    _add_audit(group(commands, "audit", "the audit record"))
    _add_evidence(group(commands, "evidence", "what a peer proved, for anybody to verify"))


def _add_session(session: "Group[argparse.ArgumentParser]") -> None:
    cut = add(session, "cut", "operate.cut_session", "cut it now")
    cut.add_argument("session", help="a session_id of: quotegate sessions")


def _add_authority(authority: "Group[argparse.ArgumentParser]") -> None:
    add(authority, "show", "authority.show", "show what is in force")
    add(authority, "revoke", "authority.revoke", "withdraw it: all guest-to-guest traffic ends")
    grant = add(authority, "grant", "authority.grant", "sign and hand in a grant")
    grant.add_argument("--for", dest="duration", default="8h", help="how long (default: 8h)")
    grant.add_argument("--key", type=Path, help="the administrator's key file (default: the lab's)")


def _add_audit(audit: "Group[argparse.ArgumentParser]") -> None:
    verify = add(audit, "verify", "operate.audit_verify", "verify the audit record")
    verify.add_argument(
        "--head", action="append", help="a head somebody remembers (JSON file; default: the lab's peers')"
    )
    export = add(audit, "export", "audit.export", "copy the signed record into a new file")
    export.add_argument("file", help="where to (JSON lines)")
    prune = add(audit, "prune", "audit.prune", "take away from the gateway what an export has")
    prune.add_argument("file", help="the export")


def _add_policy(policy: "Group[argparse.ArgumentParser]") -> None:
    check = add(policy, "check", "policy.check", "check a policy file")
    plan = add(policy, "plan", "policy.plan", "say what a policy file would change")
    plan.add_argument("--ruleset", action="store_true", help="print the elements of the ruleset that change")
    apply = add(policy, "apply", "policy.apply", "put a policy file in force")
    apply.add_argument(
        "--confirm", metavar="TIME", help="return by itself unless confirmed in time, such as 60s"
    )
    replay = add(policy, "replay", "policy.replay", "run recorded flows against a policy file")
    replay.add_argument("--hours", type=float, default=24.0, help="how far back (default: 24)")
    for command in (check, plan, apply, replay):
        command.add_argument("file", type=Path)
    add(policy, "confirm", "policy.confirm", "keep the policy that is on probation")
    add(policy, "history", "policy.history", "list the policies that were in force")
    rollback = add(policy, "rollback", "policy.rollback", "put an earlier policy back in force")
    show = add(policy, "show", "policy.show", "print the policy in force, or an earlier one")
    for command in (rollback, show):
        command.add_argument("revision", nargs="?", help="a number or hash of: quotegate policy history")


def _add_peer(peer: "Group[argparse.ArgumentParser]") -> None:
    texts = {
        "enroll": "approve a TPM beforehand by its EK certificate",
        "approve": "approve a TPM that has asked",
        "forget": "unpin its TPM and place: another may be enrolled",
        "restart": "restart the machine",
        "quarantine": "keep the machine out",
        "release": "end a quarantine",
    }
    for action, text in texts.items():
        sub = add(peer, action, "operate.peer_action", text)
        sub.add_argument("name")
        sub.set_defaults(action=action)
        if action == "enroll":
            sub.add_argument("--ek", required=True, help="sha256:… of the EK certificate (DER)")


def _add_evidence(evidence: "Group[argparse.ArgumentParser]") -> None:
    save = add(evidence, "save", "evidence.save", "write a peer's evidence to a file")
    save.add_argument("peer")
    save.add_argument("--refused", action="store_true", help="that of its last refused handshake")
    save.add_argument("-o", "--output", type=Path, help="the file (default: PEER-evidence.json)")
    show = add(evidence, "show", "evidence.show", "print what a file contains", lab=False)
    verify = add(evidence, "verify", "evidence.verify", "verify a file, without any gateway", lab=False)
    verify.add_argument(
        "--anchors", type=Path, help="whom you trust (docs/evidence.md; default: the file itself)"
    )
    anchors = add(
        evidence, "anchors", "evidence.anchors", "print whom a file's gateway trusts", lab=False, json=False
    )
    for command in (show, verify, anchors):
        command.add_argument("file", type=Path)
