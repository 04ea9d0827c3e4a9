"""`quotegate policy`: check a file, see what it would do, put it in force, and get back."""

import argparse
import datetime as dt
import os
import subprocess
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from filters.errors import PolicyError
from filters.policy.check import check_policy
from filters.policy.compiled import compile_policy
from filters.policy.model import Policy
from filters.policy.parser import parse_policy
from filters.policy.services import parse_duration_ms
from filters.ruleset.compiler import compile_ruleset
from filters.ruleset.features import Features
from gateway.cli.client import ApiError, in_path
from gateway.cli.command import of_lab
from gateway.cli.exits import EXIT_FOUND, EXIT_OK
from gateway.cli.operate import client, read_text
from gateway.cli.output import complain, say, show_json, table
from gateway.errors import GatewayError

SHOWN = 40
HISTORY_COLUMNS = ("number", "revision", "at", "actor", "outcome")
# any gateway's place will do for a dry run; the addresses are reserved for documentation (RFC 5737)
NO_PLACE = {"interface": "eth0", "gateway_ip": IPv4Address("192.0.2.1"), "control_port": 7443}
NOT_CHECKED = "kernel: NOT CHECKED"


@dataclass(frozen=True, slots=True)
class Answer:
    """What the running gateway says of a draft, or else this machine's kernel; `refusal` names who refused it."""

    text: str
    refusal: str = ""
    warnings: tuple[str, ...] = ()


def check(arguments: argparse.Namespace) -> int:
    """Check a policy file; exit 4 when it must not be applied."""
    findings: list[dict[str, str]] = []
    answer, rules = Answer(f"{NOT_CHECKED}: the file has errors"), 0
    try:
        policy = parse_policy(read_text(arguments.file), str(arguments.file))
        for found in check_policy(policy):
            place = f"{arguments.file}:{found.line}:1"
            findings.append({"severity": found.severity, "message": f"{place}: {found.message}"})
        rules = len(policy.rules)
        answer = _dry_run(arguments, policy)
    except PolicyError as error:
        findings.append({"severity": "error", "code": error.code, "message": error.message})
    known = {one["message"] for one in findings}
    findings += [{"severity": "warning", "message": one} for one in answer.warnings if one not in known]
    if answer.refusal:
        message = f"{arguments.file}: {answer.text}"
        findings.append({"severity": "error", "code": answer.refusal, "message": message})
    errors = sum(one["severity"] == "error" for one in findings)
    if arguments.json:
        show_json({"ok": not errors, "rules": rules, "findings": findings, "kernel": answer.text})
    else:
        for one in findings:
            say(f"{one['severity']}: {one['message']}")
        if not answer.refusal:
            say(answer.text)
        say(f"{arguments.file}: {rules} rules, {errors} errors, {len(findings) - errors} warnings")
    return EXIT_FOUND if errors else EXIT_OK


def _dry_run(arguments: argparse.Namespace, policy: Policy) -> Answer:
    """Ask the running gateway, its kernel included, else this machine's own kernel in a namespace of its own."""
    try:
        answer = client(arguments).post("/v1/policy/check", **_draft(arguments))
        if not answer["ok"]:
            return Answer(f"kernel: refused: {answer['kernel']}", "kernel", tuple(answer["warnings"]))
        return Answer("the gateway's kernel accepts it", warnings=tuple(answer["warnings"]))
    except ApiError as error:
        if error.code not in ("away", "not-permitted"):
            return Answer(f"gateway: refused: {error.message}", "gateway")
    if os.geteuid() != 0:
        return Answer(
            f"{NOT_CHECKED}: no gateway that lets this user ask, and only root can ask this machine's own kernel"
        )
    compiled = compile_policy(policy, **NO_PLACE)  # type: ignore[arg-type]
    text = compile_ruleset(compiled, Features(native_queue=False, timeout_update=False, handover=True))
    try:
        done = subprocess.run(
            ["unshare", "--net", "nft", "--check", "--file", "-"], input=text, text=True, capture_output=True, check=False,
        )  # fmt: skip
    except OSError as error:
        return Answer(f"{NOT_CHECKED}: {error}; install nftables and util-linux")
    if done.returncode:
        return Answer(f"kernel: refused: {done.stderr[:300]}", "kernel")
    return Answer("this machine's kernel accepts it")


def plan(arguments: argparse.Namespace) -> int:
    """Say what a file would change; exit 0 also when it would change nothing."""
    answer = client(arguments).post("/v1/policy/plan", **_draft(arguments))
    if arguments.json:
        show_json(answer)
        return EXIT_OK
    for sign, key in (("+", "gained"), ("-", "lost")):
        _say_some(
            [
                f"{sign} {one['from']} -> {one['to']} {one['service']}  (rule {one['rule']})"
                for one in answer[key]
            ]
        )
    for what, names in answer["peers"].items():
        if names:
            say(f"peers {what}: {', '.join(names)}")
    for line in answer.get("inspection", ()):
        say(line)
    for one in answer["sessions_cut"]:
        say(f"cuts the session {one['session_id']}: {one['from']} -> {one['to']} {one['service']}")
    for warning in answer["warnings"]:
        say(f"warning: {warning}")
    if arguments.ruleset:
        for line in answer["ruleset"]:
            say(line)
    say(
        f"{len(answer['gained'])} gained, {len(answer['lost'])} lost, {len(answer['sessions_cut'])} sessions cut, "
        f"{len(answer['ruleset'])} elements of the ruleset change"
    )
    return EXIT_OK


def apply(arguments: argparse.Namespace) -> int:
    """Put a file in force, on probation with --confirm."""
    within = _seconds(arguments.confirm) if arguments.confirm else None
    answer = client(arguments).post("/v1/policy/apply", **_draft(arguments), confirm_s=within)
    if arguments.json:
        show_json(answer)
        return EXIT_OK
    for warning in answer["warnings"]:
        say(f"warning: {warning}")
    say(
        f"in force: {answer['revision'][:16]} (number {answer['number']}), {answer['sessions_cut']} sessions cut"
    )
    if within:
        keep = f"quotegate policy confirm{of_lab(arguments.lab)}"
        say(f"it returns by itself in {arguments.confirm}; to keep it: {keep}")
    return EXIT_OK


def confirm(arguments: argparse.Namespace) -> int:
    """Keep the policy that is on probation."""
    answer = client(arguments).post("/v1/policy/confirm")
    show_json(answer) if arguments.json else say(f"confirmed: {answer['revision'][:16]}")
    return EXIT_OK


def rollback(arguments: argparse.Namespace) -> int:
    """Put an earlier policy back in force."""
    body = {"revision": arguments.revision} if arguments.revision else {}
    answer = client(arguments).post("/v1/policy/rollback", **body)
    show_json(answer) if arguments.json else say(
        f"in force: {answer['revision'][:16]} (number {answer['number']}), {answer['sessions_cut']} sessions cut"
    )
    return EXIT_OK


def history(arguments: argparse.Namespace) -> int:
    """List what was in force."""
    answer = client(arguments).get("/v1/policy/history")
    if arguments.json:
        show_json(answer)
        return EXIT_OK
    rows = [{**one, "revision": one["revision"][:16], "at": _clock(one["at"])} for one in answer["revisions"]]
    say(table(rows, HISTORY_COLUMNS))
    if answer["confirm_within_s"] is not None:
        say(f"number {answer['returns_to']} returns in {answer['confirm_within_s']:.0f} s unless confirmed")
    return EXIT_OK


def show(arguments: argparse.Namespace) -> int:
    """Print the policy in force, or an earlier one."""
    query = f"?revision={in_path(arguments.revision)}" if arguments.revision else ""
    answer = client(arguments).get(f"/v1/policy{query}")
    show_json(answer) if arguments.json else say(answer["text"].rstrip("\n"))
    return EXIT_OK


def replay(arguments: argparse.Namespace) -> int:
    """Run the recorded flows of the last hours against a file; exit 4 when any comes out otherwise."""
    answer = client(arguments).post("/v1/policy/replay", **_draft(arguments), hours=arguments.hours)
    if arguments.json:
        show_json(answer)
    else:
        _say_some([
            f"{one['from']} -> {one['to']} {one['service']} ({one['count']}x): {one['before']} -> {one['after']}"
            f"  (rule {one['rule_before'] or 'none'} -> {one['rule_after'] or 'none'})"
            for one in answer["changed"]
        ])  # fmt: skip
        if not answer["complete"]:
            complain(f"only the newest {answer['records']} records were read; ask for fewer hours")
        say(
            f"{answer['flows']} flows in {answer['records']} records, {len(answer['changed'])} come out otherwise"
        )
    return EXIT_FOUND if answer["changed"] else EXIT_OK


def _draft(arguments: argparse.Namespace) -> dict[str, Any]:
    path: Path = arguments.file
    return {"text": read_text(path), "file": str(path)}


def _seconds(text: str) -> float:
    try:
        return parse_duration_ms(text) / 1000
    except ValueError as error:
        raise GatewayError("bad-duration", str(error)) from error


def _clock(seconds: float) -> str:
    return dt.datetime.fromtimestamp(seconds).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _say_some(lines: list[str]) -> None:
    for line in lines[:SHOWN]:
        say(line)
    if len(lines) > SHOWN:
        say(f"and {len(lines) - SHOWN} more (--json lists all)")
