"""The papers tell the truth where a program can check it."""

import dataclasses
import re
from pathlib import Path

import pytest

from authn.failure import AttestationFailure
from filters.policy.check import check_policy
from filters.policy.parser import parse_policy
from filters.reason import DropReason
from gateway.agent.state import AgentState
from gateway.api.routes import ROUTES, Permission
from gateway.api.server import handlers
from gateway.cli.parser import build_parser
from gateway.events import model, ocsf
from gateway.sessions.ends import SessionEnd

REASONS = Path("docs/reasons.md").read_text()


@pytest.mark.parametrize("reason", DropReason)
def test_every_drop_reason_has_its_section(reason: DropReason) -> None:
    section = REASONS.split(f"\n## {reason}\n")
    assert len(section) == 2
    assert len(section[1].split("\n## ")[0].strip()) > 20


@pytest.mark.parametrize("failure", AttestationFailure)
def test_every_attestation_failure_has_its_line(failure: AttestationFailure) -> None:
    assert len(re.findall(rf"^\| {failure} \| .{{10,}} \|$", REASONS, re.MULTILINE)) == 1


@pytest.mark.parametrize("end", SessionEnd)
def test_every_end_of_a_session_has_its_line(end: SessionEnd) -> None:
    assert len(re.findall(rf"^\| {end} \| .{{10,}} \|$", REASONS, re.MULTILINE)) == 1


@pytest.mark.parametrize("state", AgentState)
def test_every_state_of_an_agent_has_its_line(state: AgentState) -> None:
    section = REASONS.split("\n# States of an agent\n")[1].split("\n# ")[0]
    assert len(re.findall(rf"^\| {state} \| .{{10,}} \|$", section, re.MULTILINE)) == 1


def test_every_route_declares_its_permission() -> None:
    assert handlers
    assert len({(route.method, route.path) for route in ROUTES}) == len(ROUTES) > 15
    for route in ROUTES:
        changes = route.method != "GET" and route.path not in ("/v1/explain", "/v1/audit/verify")
        assert (route.permission is Permission.ADMINISTER) == changes, route.path


def test_every_route_has_its_line() -> None:
    told = re.findall(r"^\| `([A-Z]+) (\S+)` \| (\w+) \|", Path("docs/api.md").read_text(), re.MULTILINE)
    declared = {(route.method, route.path, str(route.permission)) for route in ROUTES}
    assert len(told) == len(declared)
    assert set(told) == declared


def test_every_route_tells_what_it_takes() -> None:
    lines = re.findall(
        r"^\| `([A-Z]+ \S+)` \|[^|]*\|[^|]*\|([^|]*)\|", Path("docs/api.md").read_text(), re.MULTILINE
    )
    told = dict(lines)
    for route in ROUTES:
        cell = told[f"{route.method} {route.path}"]
        assert all(f"`{name}`" in cell for name in route.takes), route.path
        assert bool(route.takes) == bool(cell.strip()), route.path


def test_every_event_has_its_line_with_all_its_fields() -> None:
    lines = re.findall(
        r"^\| `([a-z-]+)` \| [\d, ]+ \| .* \| (.*) \|$", Path("docs/events.md").read_text(), re.MULTILINE
    )
    told = {code: re.findall(r"`(\w+)`", fields) for code, fields in lines}
    kinds = [getattr(model, name) for name in dir(model) if dataclasses.is_dataclass(getattr(model, name))]
    declared = {
        ocsf.event_code(kind.__new__(kind)): [one.name for one in dataclasses.fields(kind)] for kind in kinds
    }
    assert len(lines) == len(told)
    assert told == declared


def test_the_policy_in_the_papers_is_a_good_one() -> None:
    blocks = re.findall(r"```toml\n(.*?)```", Path("docs/policy.md").read_text(), re.DOTALL)
    assert blocks
    assert check_policy(parse_policy(blocks[0])) == []


@pytest.mark.parametrize(
    "page", ["README.md", "ARCHITECTURE.md", "THREAT_MODEL.md", *map(str, Path("docs").rglob("*.md"))]
)
def test_links_and_files_exist(page: str) -> None:
    text = Path(page).read_text()
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (Path(page).parent / target).exists(), target
    for name in re.findall(r"`((?:authn|filters|gateway|vmhost|tests|docs|examples)/[\w/.-]+)`", text):
        assert Path(name).exists() or Path(f"{name}.py").exists(), name


@pytest.mark.parametrize(("page", "at_least"), [("README.md", 9), ("docs/own-guest.md", 4)])
def test_every_command_in_the_papers_parses(page: str, at_least: int) -> None:
    parser = build_parser()
    text = Path(page).read_text().replace("\\\n", " ")
    commands = re.findall(r"^(?:sudo )?quotegate ([^#\n|<&;>]+)", text, re.MULTILINE)
    assert len(commands) >= at_least
    for command in commands:
        parser.parse_args(command.split())
