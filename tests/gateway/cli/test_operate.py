"""Everyday commands: what they ask for, and what they say of a gateway through which nothing passes."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.cli import operate, policy
from gateway.cli.parser import build_parser
from gateway.errors import GatewayError

ENDS = {"source_ip": "10.0.0.2", "destination_ip": "10.0.0.3"}


@pytest.mark.parametrize(
    ("words", "flow"),
    [
        (("10.0.0.2:40000", "10.0.0.3:80", "tcp"), {**ENDS, "protocol": "tcp", "destination_port": 80}),
        (("10.0.0.2", "10.0.0.3", "udp/53"), {**ENDS, "protocol": "udp", "destination_port": 53}),
        (("10.0.0.2", "10.0.0.3:53", "udp/53"), {**ENDS, "protocol": "udp", "destination_port": 53}),
        (("10.0.0.2", "10.0.0.3", "icmp"), {**ENDS, "protocol": "icmp"}),
        (("10.0.0.2", "10.0.0.3", "icmp/echo"), {**ENDS, "protocol": "icmp"}),
        (("web", "db", "tcp/80"), {"from": "web", "to": "db", "service": "tcp/80"}),
    ],
)
def test_reads_a_flow_as_it_is_written(words: tuple[str, ...], flow: dict[str, Any]) -> None:
    assert operate._flow(build_parser().parse_args(["explain", *words])) == flow


@pytest.mark.parametrize(
    "words",
    [
        ("10.0.0.2", "10.0.0.3:80", "tcp/81"),
        ("10.0.0.2:x", "10.0.0.3:80", "tcp"),
        ("10.0.0.2:99999", "10.0.0.3:80", "tcp"),
        ("10.0.0.2", "10.0.0.3:0", "tcp"),
        ("10.0.0.2", "10.0.0.3:65536", "tcp"),
        ("10.0.0.2", "10.0.0.3", "tcp"),
        ("10.0.0.2", "10.0.0.3", "tcp/80-90"),
        ("10.0.0.2", "10.0.0.3:\u0668\u0660", "tcp"),
    ],
)
def test_rejects_a_flow_that_would_be_explained_as_another(words: tuple[str, ...]) -> None:
    with pytest.raises(GatewayError) as refused:
        operate._flow(build_parser().parse_args(["explain", *words]))
    assert refused.value.code == "bad-flow"


WELL: dict[str, Any] = {
    "gateway": "lab/gateway", "uptime_s": 1.0, "authority": "valid", "policy_closed": "", "peers": {"trusted": 2}, "sessions": 0,
    "audit": {"sequence": 7, "full": False}, "drops": {}, "inspectors": 1, "inspection": [],
}  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({}, ""),
        ({"authority": "expired"}, "authority is expired"),
        (
            {"policy_closed": "f:1:1: \x1b[2J"},
            "the stored policy is not in force, so nothing passes: f:1:1: \\u001b",
        ),
        ({"audit": {"sequence": 7, "full": True}}, "the audit record has no room"),
        ({"inspectors": 0}, "no inspector is there"),
    ],
)
def test_rejects_to_look_well_when_nothing_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], wrong: dict[str, Any], said: str
) -> None:
    api = SimpleNamespace(get=lambda _: {**WELL, **wrong})
    monkeypatch.setattr(operate, "client", lambda _: api)
    assert operate.status(build_parser().parse_args(["status"])) == 0
    alarms = [line for line in capsys.readouterr().out.splitlines() if line.startswith("ATTENTION: ")]
    assert len(alarms) == bool(said)
    assert all(said in line for line in alarms)


def test_rejects_to_advise_what_would_act_on_another_lab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """`policy confirm` at the wrong gateway, and the policy on probation is gone."""
    applied = {"warnings": [], "confirm_within_s": 60, "revision": "0" * 64, "number": 2, "sessions_cut": 0}
    api = SimpleNamespace(get=lambda _: {**WELL, "authority": "absent"}, post=lambda *_, **__: applied)
    for module in (operate, policy):
        monkeypatch.setattr(module, "client", lambda _: api)
    (tmp_path / "p.toml").touch()
    for lab, told in (("mine", " --lab mine"), ("lab", "")):
        operate.status(build_parser().parse_args(["status", "--lab", lab]))
        assert f"quotegate authority grant --for 8h{told}\n" in capsys.readouterr().out
        words = ["policy", "apply", "--confirm", "60s", "--lab", lab, str(tmp_path / "p.toml")]
        policy.apply(build_parser().parse_args(words))
        assert f"quotegate policy confirm{told}\n" in capsys.readouterr().out
