"""Operate the policy of a running lab as people would: check, plan, apply, confirm, return, roll back, replay, explain."""

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.inside import udp_socket
from tests.lab.conftest import RunningLab
from vmhost.monitor.client import ask

pytestmark = pytest.mark.lab
EXTRA = '\n[[rule]]\nid = "extra"\nfrom = "ops"\nto = "web"\nservice = "tcp/9999"\naction = "allow"\n'


@pytest.fixture
def draft(lab: RunningLab, tmp_path: Path) -> Path:
    path = tmp_path / "draft.toml"
    path.write_text(lab.spec.policy_text + EXTRA)
    return path


@pytest.fixture
def closed(lab: RunningLab, tmp_path: Path) -> Path:
    path = tmp_path / "closed.toml"
    path.write_text(lab.spec.policy_text.split("[[rule]]")[0])
    return path


def _revision(lab: RunningLab) -> str:
    return lab.api.get("/v1/status")["policy_revision"]


def test_check_asks_the_gateways_kernel(lab: RunningLab, draft: Path) -> None:
    assert lab.json("policy", "check", str(draft))["kernel"] == "the gateway's kernel accepts it"


def test_check_works_without_a_gateway(draft: Path) -> None:
    done = subprocess.run(
        [".venv/bin/quotegate", "policy", "check", "--lab", "none", str(draft)], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0
    assert "this machine's kernel accepts it" in done.stdout


def test_check_says_loudly_what_it_could_not_do(tmp_path: Path, draft: Path) -> None:
    """A user who may neither ask the gateway nor the kernel."""
    code = (
        "import os, sys; sys.argv = ['quotegate', 'policy', 'check', '--lab', 'none', sys.argv[1]]; "
        "from gateway.cli.parser import build_parser; import gateway.cli.policy as p; "
        "a = build_parser().parse_args(); p.read_text = lambda _: sys.stdin.read(); os.setuid(65534); sys.exit(a.run(a))"
    )
    done = subprocess.run(
        [".venv/bin/python", "-c", code, str(draft)], input=draft.read_text(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "kernel: NOT CHECKED: no gateway" in done.stdout


def test_plan_changes_nothing_and_names_what_would(lab: RunningLab, draft: Path, closed: Path) -> None:
    lab.cli("authority", "grant", "--for", "1h")
    assert lab.exec("web", "quotegate-agent", "connect", "db", "tcp/5432").returncode is not None
    before = _revision(lab)
    gained = lab.json("policy", "plan", str(draft))
    assert gained["gained"] == [{"from": "ops", "to": "web", "service": "tcp/9999", "rule": "extra"}]
    assert gained["lost"] == gained["sessions_cut"] == []
    lost = lab.json("policy", "plan", str(closed))
    assert {"from": "web", "to": "db", "service": "tcp/5432", "rule": "web-to-db"} in lost["lost"]
    assert [one["service"] for one in lost["sessions_cut"]] == ["tcp/5432"]
    assert any(line.startswith("- allowed ") for line in lost["ruleset"])
    text = lab.cli("policy", "plan", "--ruleset", str(draft)).stdout.decode()
    assert "+ ops -> web tcp/9999  (rule extra)" in text
    assert _revision(lab) == before


def test_an_unconfirmed_policy_returns_by_itself(lab: RunningLab, closed: Path) -> None:
    before = _revision(lab)
    lab.cli("policy", "apply", "--confirm", "1s", str(closed))
    assert _revision(lab) != before
    again = lab.cli("policy", "apply", str(closed), check=False)
    assert b"confirmation-pending" in again.stderr
    lab.until(lambda: _revision(lab) == before, within_s=3)
    assert lab.json("policy", "history")["revisions"][0]["outcome"] == "returned"
    assert b"nothing-to-confirm" in lab.cli("policy", "confirm", check=False).stderr


def test_a_confirmed_policy_stays_and_a_rollback_takes_it_back(lab: RunningLab, draft: Path) -> None:
    before = _revision(lab)
    lab.cli("policy", "apply", "--confirm", "60s", str(draft))
    lab.cli("policy", "confirm")
    history = lab.json("policy", "history")
    assert history["confirm_within_s"] is None
    assert history["revisions"][0]["actor"] == "uid 0"
    assert lab.cli("policy", "show").stdout.decode().strip() == draft.read_text().strip()
    lab.cli("policy", "rollback")
    assert _revision(lab) == before


def test_a_tighter_age_of_quotes_is_kept_and_one_that_nobody_can_keep_is_refused(
    lab: RunningLab, tmp_path: Path
) -> None:
    pcrs = re.compile(r"^(pcrs = .*)$", re.MULTILINE)
    paths = {age: tmp_path / f"{age}.toml" for age in ("349ms", "350ms")}
    for age, path in paths.items():
        path.write_text(pcrs.sub(rf'\1\nmax_quote_age = "{age}"', lab.spec.policy_text))
    before = _revision(lab)
    refused = lab.cli("policy", "apply", str(paths["349ms"]), check=False)
    assert b"expected at least 350 ms" in refused.stderr
    assert _revision(lab) == before
    lab.cli("policy", "apply", str(paths["350ms"]))
    time.sleep(3)
    states = {
        one["name"]: one["reason"] for one in lab.api.get("/v1/peers")["peers"] if one["state"] != "trusted"
    }
    assert not states
    lab.cli("policy", "rollback")


def test_a_gateway_killed_on_probation_comes_back_with_the_former_policy(
    lab: RunningLab, closed: Path
) -> None:
    before = _revision(lab)
    lab.cli("policy", "apply", "--confirm", "10m", str(closed))
    pids = json.loads(lab.cli("lab", "status", "--json").stdout)["gateway"]["pids"]
    os.kill(pids["quotegated"], signal.SIGKILL)
    lab.until(lambda: _revision(lab) == before)
    lab.until(lab.all_trusted)
    assert lab.json("policy", "history")["revisions"][0]["outcome"] == "returned"


def _with_ek(lab: RunningLab, path: Path, ek: str) -> Path:
    ip = f'ip = "{lab.spec.machine("ops").ip}"'
    assert ip in lab.spec.policy_text
    path.write_text(lab.spec.policy_text.replace(ip, f'{ip}, ek = "{ek}"'))
    return path


def test_a_policy_that_names_another_tpm_ends_its_peers_session(lab: RunningLab, tmp_path: Path) -> None:
    lab.until(lab.all_trusted)
    web, after = lab.peer("web")["session_id"], lab.last_sequence()
    lab.cli("policy", "apply", str(_with_ek(lab, tmp_path / "ek.toml", "sha256:" + "9f" * 32)))
    assert lab.peer("ops")["state"] != "trusted"
    lab.until(lambda: ("ops", "wrong-ek", False) in lab.failures(after))
    assert lab.peer("ops")["state"] != "trusted"
    assert lab.peer("web")["session_id"] == web
    lab.cli("policy", "rollback")
    lab.until(lab.all_trusted)


def test_a_policy_that_names_the_enrolled_tpm_disturbs_nobody(lab: RunningLab, tmp_path: Path) -> None:
    lab.until(lab.all_trusted)
    before = lab.peer("ops")
    lab.cli("policy", "apply", str(_with_ek(lab, tmp_path / "ek.toml", before["ek_fingerprint"])))
    time.sleep(0.5)
    assert lab.peer("ops")["session_id"] == before["session_id"]
    lab.cli("policy", "rollback")


def test_a_policy_without_a_live_peer_cuts_that_one_alone(lab: RunningLab, tmp_path: Path) -> None:
    lab.until(lab.all_trusted)
    starts = ask(lab.lab, "status")["gateway"]["starts"]
    others = {name: lab.peer(name)["session_id"] for name in ("web", "db")}
    tables = re.split(r"(?m)^(?=\[)", lab.spec.policy_text)
    path = tmp_path / "without.toml"
    path.write_text("".join(one for one in tables if "ops" not in one))
    lab.cli("policy", "apply", str(path))
    assert (lab.peer("ops")["state"], lab.peer("ops")["reason"]) == ("unreachable", "policy-changed")
    time.sleep(1)  # its agent tries, and the gateway looks for silence
    assert {name: lab.peer(name)["session_id"] for name in others} == others
    assert lab.peer("ops")["restarts"] == 0
    lab.cli("policy", "rollback")
    lab.until(lab.all_trusted)
    assert ask(lab.lab, "status")["gateway"]["starts"] == starts


def test_replay_runs_recorded_flows_against_a_draft(lab: RunningLab, closed: Path) -> None:
    lab.exec("web", "quotegate-agent", "connect", "db", "tcp/5432")
    done = lab.cli("policy", "replay", "--hours", "1", "--json", str(closed), check=False)
    assert done.returncode == 4
    changed = {(one["from"], one["to"], one["service"]): one for one in json.loads(done.stdout)["changed"]}
    one = changed["web", "db", "tcp/5432"]
    assert (one["before"], one["after"], one["rule_before"]) == ("allow", "deny:no-rule", "web-to-db")


def test_explain_takes_names_addresses_or_a_recorded_flow(lab: RunningLab) -> None:
    web, db = (str(lab.spec.machine(name).ip) for name in ("web", "db"))
    by_name = json.loads(lab.cli("explain", "web", "db", "tcp/5432", "--json", check=False).stdout)
    by_tuple = json.loads(
        lab.cli("explain", f"{web}:40000", f"{db}:5432", "tcp", "--json", check=False).stdout
    )
    assert by_name["rule"] == by_tuple["rule"] == "web-to-db"
    assert by_name["trust"]["web"]["state"] == "trusted"
    assert by_name["trust"]["web"]["last_quote_age_ms"] < 60_000
    assert by_name["rules"][0]["id"] == "web-to-db"
    assert by_name["rules"][0]["matches"]
    assert all(one["misses"] for one in by_name["rules"] if not one["matches"])
    granted = next(
        one
        for one in lab.api.get("/v1/events?after=0")["events"]
        if one["metadata"]["event_code"] == "session-granted"
    )
    number = str(granted["metadata"]["sequence"])
    recorded = json.loads(lab.cli("explain", "--event", number, "--json", check=False).stdout)
    assert (recorded["from"], recorded["to"], recorded["service"]) == ("web", "db", "tcp/5432")


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("explain", "web"), "bad-flow"),
        (("explain", "10.9.9.9", "10.9.9.8:1", "tcp"), "unknown-peer"),
        (("explain", "10.9.9.9", "10.9.9.8", "tcp"), "bad-flow"),
        (("explain", "--event", "1"), "no-flow"),
        (("explain", "--event", "99999999"), "unknown-event"),
        (("policy", "rollback", "nonsense"), "unknown-revision"),
        (("policy", "apply", "--confirm", "soon", "examples/policy.toml"), "bad-duration"),
        (("policy", "apply", "--confirm", "1ms", "examples/policy.toml"), "bad-duration"),
        (("policy", "replay", "--hours", "0", "examples/policy.toml"), "malformed-request"),
    ],
)
def test_bad_input_gets_one_clear_line(lab: RunningLab, words: tuple[str, ...], code: str) -> None:
    before = _revision(lab)
    done = lab.cli(*words, check=False)
    assert done.returncode == 1
    assert done.stderr.decode().startswith(f"quotegate: {code}: ")
    assert done.stderr.count(b"\n") == 1
    assert _revision(lab) == before


def test_no_packet_of_an_unaffected_flow_is_lost(lab: RunningLab, draft: Path) -> None:
    """Datagrams go from web to db while the policy changes ten times; each must arrive."""
    text = lab.spec.policy_text + (
        '\n[[rule]]\nid = "udp"\nfrom = "web"\nto = "db"\nservice = "udp/7000"\naction = "allow"\n'
    )
    draft.write_text(text)
    lab.cli("policy", "apply", str(draft))
    lab.exec("web", "quotegate-agent", "open", "db", "udp/7000")
    receiver = udp_socket(lab.lab.peer_namespace("db"))
    receiver.bind(("0.0.0.0", 7000))
    sender = udp_socket(lab.lab.peer_namespace("web"))
    sender.connect((str(lab.spec.machine("db").ip), 7000))
    changes = [draft.with_name(f"c{at}.toml") for at in range(10)]
    for at, path in enumerate(changes):
        path.write_text(text + EXTRA.replace("9999", str(9000 + at)))
    sent = 0
    for path in changes:
        change = subprocess.Popen(
            [".venv/bin/quotegate", "policy", "apply", "--lab", lab.lab.name, str(path)],
            stdout=subprocess.DEVNULL,
        )
        while change.poll() is None:
            sender.send(sent.to_bytes(8, "big"))
            sent += 1
            time.sleep(0.001)
        assert change.returncode == 0
    time.sleep(0.2)
    receiver.setblocking(False)
    got = set()
    while True:
        try:
            got.add(int.from_bytes(receiver.recv(64), "big"))
        except BlockingIOError:
            break
    assert sent > 500
    assert got == set(range(sent))
