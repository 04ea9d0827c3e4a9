"""`quotegate inspect`: what the gateway's inspectors find in a capture or a file; no gateway is asked."""

import argparse
import json
import resource
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from filters.inspection.assignments import Assignments
from filters.inspection.directory import read_directory, read_file
from filters.inspection.finding import Finding
from filters.inspection.material import Kind, Material, SourceFile, sift
from filters.inspection.objects.judge import Judge
from filters.inspection.offline.capture import Capture, CaptureError
from filters.inspection.offline.selection import Choose
from filters.inspection.offline.summary import Endpoint, Event, Flow, Learnt, Summary
from filters.inspection.offline.twin import Twin, inspect_file
from filters.inspection.spec import DETECTORS, InspectionSpec
from filters.inspection.toolbox import Toolbox
from filters.policy.assignments import assignments_of
from filters.policy.compiled import compile_policy
from filters.policy.parser import parse_policy
from gateway.cli.exits import EXIT_FOUND, EXIT_OK
from gateway.cli.operate import read_text
from gateway.cli.output import complain, say
from gateway.cli.policy import NO_PLACE
from gateway.cli.rules import assumed_text, read_rules_text, variables
from gateway.errors import GatewayError


def inspect(arguments: argparse.Namespace) -> int:
    """Inspect a capture or, with --file, one object; with --check exit 4 when something was found."""
    if bool(arguments.capture) == bool(arguments.file):
        raise GatewayError("nothing-to-inspect", "expected a capture, or --file and one file")
    if arguments.file and (arguments.policy or arguments.flows):
        raise GatewayError(
            "no-capture", "--policy and --flows are about the flows of a capture, and --file is none"
        )
    toolbox = _toolbox(arguments)
    _check_material(toolbox, arguments)
    path = Path(arguments.capture or arguments.file)
    try:
        with path.open("rb") as file:
            found = (
                _object(toolbox.judge(_spec(arguments)), file, path, arguments)
                if arguments.file
                else _capture(_chooser(toolbox, arguments), file, path, arguments)
            )
    except BrokenPipeError:
        raise  # the reader of what is said went away
    except OSError as error:
        raise GatewayError("unreadable", f"{path}: {error.strerror or error}") from error
    return EXIT_FOUND if found and arguments.check else EXIT_OK


def _spec(arguments: argparse.Namespace) -> InspectionSpec:
    detectors = _named(arguments)
    if unknown := detectors - set(DETECTORS):
        raise GatewayError("unknown-detector", f"{min(unknown)!r}: expected some of {', '.join(DETECTORS)}")
    if not detectors:
        raise GatewayError("no-detector", f"--detectors is empty: expected some of {', '.join(DETECTORS)}")
    if arguments.patterns:
        detectors |= {"patterns", "marks"}
    if arguments.clamd:
        detectors |= {"clamd"}
    if arguments.fingerprints:
        detectors |= {"fingerprints"}
    elif "fingerprints" in detectors:
        raise GatewayError("no-fingerprints", "the detector fingerprints needs a set: --fingerprints PATH")
    if arguments.rules:
        detectors |= {"rules"}
    elif "rules" in detectors:
        raise GatewayError("no-rules", "the detector rules needs a file of Suricata rules: --rules FILE")
    return InspectionSpec(detectors)


def _check_material(toolbox: Toolbox, arguments: argparse.Namespace) -> None:
    """Refuse to look for what nobody said; raises GatewayError."""
    if arguments.rules and not toolbox.coverage.loaded:
        raise GatewayError("no-rules", "none of the rules given can be used; quotegate rules check says why")
    if arguments.policy:
        return  # its rules say what to look for
    given = {name for name in ("clamd", "fingerprints") if getattr(arguments, name)}
    if lacking := toolbox.lacking(_spec(arguments)) & (_named(arguments) | given):
        raise GatewayError(
            "material-missing",
            f"nothing could be found by {', '.join(sorted(lacking))}: give --patterns FILE for patterns and marks, "
            "--clamd SOCKET of a clamd that runs, --fingerprints of a set with documents",
        )


def _named(arguments: argparse.Namespace) -> frozenset[str]:
    return frozenset(one.strip() for one in arguments.detectors.split(",") if one.strip())


def _chooser(toolbox: Toolbox, arguments: argparse.Namespace) -> Judge | Choose:
    """Return what inspects every flow, or the choice that a policy makes for each."""
    if not arguments.policy:
        return toolbox.judge(_spec(arguments))
    policy = parse_policy(read_text(arguments.policy), str(arguments.policy))
    listed = assignments_of(policy, compile_policy(policy, **NO_PLACE))  # type: ignore[arg-type]
    for one in listed:
        if lacking := toolbox.lacking(one.spec):
            needs = f"rule {one.rule} looks for {', '.join(sorted(lacking))}"
            raise GatewayError(
                "material-missing", f"{needs}: give --patterns, --rules, --fingerprints or --clamd"
            )
    assignments = Assignments(tuple(listed))
    judges = {one.spec: toolbox.judge(one.spec) for one in listed}

    def choose(protocol: int, client: Endpoint, server: Endpoint) -> Judge | None:
        found = assignments.find(protocol, client[0], server[0], server[1])
        return judges[found.spec] if found else None

    return choose


def _toolbox(arguments: argparse.Namespace) -> Toolbox:
    texts = [(str(path), read_rules_text(path)) for path in arguments.rules]
    toolbox = Toolbox(
        _material(arguments), clamd=arguments.clamd, rules=texts, variables=variables(arguments.var)
    )
    if toolbox.coverage.assumed:
        complain(assumed_text(toolbox.coverage))
    if not toolbox.coverage.is_complete:
        words = " ".join(map(str, arguments.rules))
        missing = len(toolbox.coverage.unsupported) + len(toolbox.coverage.broken)
        complain(
            f"{missing} rules are not in force ({toolbox.coverage.loaded} are): quotegate rules check {words}"
        )
    return toolbox


def _material(arguments: argparse.Namespace) -> Material:
    files = []
    try:
        if arguments.patterns:
            one = read_file(arguments.patterns)
            files.append(SourceFile(one.name.removesuffix(".toml") + ".toml", one.data))
        if arguments.yara:
            files += [one for one in read_directory(arguments.yara) if one.kind is Kind.YARA]
        if arguments.fingerprints:
            one = read_file(_set_file(arguments.fingerprints))
            files.append(SourceFile(one.name.removesuffix(Kind.FINGERPRINTS) + Kind.FINGERPRINTS, one.data))
    except (OSError, ValueError) as error:
        raise GatewayError("unreadable", str(error)) from error
    material = sift(files, Material())
    for bad in material.bad:
        if bad.name.endswith(Kind.PATTERNS):
            raise GatewayError("pattern", f"{arguments.patterns}: {bad.problem}; mend this pattern")
        if bad.name.endswith(Kind.FINGERPRINTS):
            raise GatewayError("fingerprint-set", f"{arguments.fingerprints}: {bad.problem}")
        complain(f"left out, the other rules are used: {bad.name}: {bad.problem}")
    return material


def _set_file(where: Path) -> Path:
    from filters.inspection.fingerprints.store import set_path

    return set_path(where)


def _capture(judge: Judge | Choose, file: BinaryIO, path: Path, arguments: argparse.Namespace) -> bool:
    try:
        capture = Capture(file)
    except CaptureError as error:
        raise GatewayError("no-capture", f"{path}: {error}; use --file for any other file") from error
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # one for each large object under way
    twin = Twin(
        judge, tell=partial(_tell_flow, as_json=arguments.json) if arguments.flows else lambda _: None
    )
    for event in twin.events(capture):
        say(json.dumps(_event_json(event)) if arguments.json else _event_text(event))
    summary = twin.summary
    if arguments.json:
        say(json.dumps(_summary_json(summary)))
    else:
        _tell(summary)
    return bool(summary.checks)


def _object(judge: Judge, file: BinaryIO, path: Path, arguments: argparse.Namespace) -> bool:
    found = inspect_file(judge, file.read(judge.limits.object + 1), path.name)
    for one in found:
        say(
            json.dumps(_finding_json(one))
            if arguments.json
            else f"{one.reason}  {one.check}  {_where(one)}{one.detail}"
        )
    checks = Counter(one.check for one in found)
    if arguments.json:
        say(json.dumps({"event": "summary", "file": str(path), "findings": dict(checks)}))
    else:
        say(f"{path}: {len(found)} findings" if found else f"{path}: nothing found")
    return bool(found)


def _finding_json(one: Finding) -> dict[str, object]:
    return {
        "event": "finding",
        "reason": one.reason,
        "check": one.check,
        "detail": one.detail,
        "protocol": one.protocol,
        "direction": one.direction.name.lower().replace("_", "-") if one.direction is not None else None,
        "offset": one.offset,
        "inside": one.inside,
        "evidence": one.evidence,
        "cuts": one.cuts,
    }


def _tell_flow(one: Learnt, *, as_json: bool) -> None:
    if as_json:
        notes = [{"kind": kind, **facts} for kind, facts in one.notes]
        say(
            json.dumps(
                {
                    "event": "flow",
                    "flow": _ends_json(one.flow),
                    "protocol": one.spoken,
                    "notes": notes,
                    "earlier_notes": one.earlier,
                }
            )
        )
        return
    said = [f"({one.earlier} earlier left out)"] * bool(one.earlier)
    said += [
        f"{kind} " + " ".join(f"{name}={value}" for name, value in facts.items() if value)
        for kind, facts in one.notes
        if kind != "protocol"
    ]
    say("; ".join([f"   flow  {one.spoken:<16}  {_ends(one.flow)}", *said]))


def _ends_json(flow: Flow) -> dict[str, object]:
    return {
        "transport": flow.protocol,
        "client": {"ip": flow.client[0], "port": flow.client[1]},
        "server": {"ip": flow.server[0], "port": flow.server[1]},
    }


def _ends(flow: Flow) -> str:
    return f"{flow.client[0]}:{flow.client[1]} → {flow.server[0]}:{flow.server[1]}"


def _event_json(event: Event) -> dict[str, object]:
    ends = _ends_json(event.flow) if event.flow else None
    return {**_finding_json(event.finding), "flow": ends, "frame": event.frame, "time": event.time}


def _event_text(event: Event) -> str:
    one, ends = event.finding, _ends(event.flow) if event.flow else "-"
    told = "" if one.cuts else "  (told only: the flow goes on)"
    return f"{event.frame:>7}  {one.reason:<16}  {one.check:<28}  {ends}  {_where(one)}{one.detail}{told}"


def _where(one: Finding) -> str:
    return f"{one.inside}: " if one.inside else ""


def _summary_json(summary: Summary) -> dict[str, object]:
    return {
        "event": "summary",
        "frames": summary.frames,
        "flows": summary.flows,
        "bytes": summary.bytes,
        "protocols": dict(summary.protocols),
        "findings": dict(summary.checks),
        "refused_flows": summary.refused_flows,
        "left_out": dict(summary.left_out),
        "broken": summary.broken or None,
    }


def _tell(summary: Summary) -> None:
    say(
        f"{summary.frames} frames, {summary.flows} flows, {summary.bytes} bytes of payload; "
        f"{sum(summary.checks.values())} findings, {summary.refused_flows} flows refused"
    )
    for title, counted in (
        ("protocols", summary.protocols),
        ("findings", summary.checks),
        ("left out", summary.left_out),
    ):
        if counted:
            say(f"  {title}: {_listed(counted.most_common())}")
    if summary.broken:
        say(f"  read only in part: {summary.broken}")


def _listed(counted: Iterable[tuple[str, int]]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counted)
