"""The operator's commands against a running lab."""

import json
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from gateway.cli.client import ApiError
from tests.lab.conftest import RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]
SERVER = """
import socket
server = socket.create_server(("0.0.0.0", 5432))
connection, _ = server.accept()
while connection.recv(65536): pass
connection.close()
"""


def test_without_authority_nothing_is_granted(lab: RunningLab) -> None:
    done = lab.exec("web", "quotegate-agent", "connect", "db", "tcp/5432")
    assert (done.returncode, b"communication-disabled" in done.stderr) == (3, True)
    explained = json.loads(lab.cli("explain", "web", "db", "tcp/5432", "--json", check=False).stdout)
    assert set(explained) >= {"verdict", "reason", "rule", "conditions", "advice"}
    assert explained["reason"] == "communication-disabled"


def test_peers_have_the_documented_fields(lab: RunningLab) -> None:
    for peer in lab.json("peers"):
        assert {"name", "state", "reason", "ip", "last_quote_age_ms", "restarts"} <= set(peer)
        assert peer["state"] == "trusted"
        assert peer["last_quote_age_ms"] < 2000


def test_the_gateway_tests_itself(lab: RunningLab) -> None:
    answer = lab.api.post("/v1/self-test")
    failed = {one["check"]: one["detail"] for one in answer["checks"] if not one["passed"]}
    (inspector,) = lab.json("status")["inspection"]
    confined = " ".join(inspector["confined"])
    if "landlock" in confined and "seccomp" in confined:
        assert (answer["passed"], failed) == (True, {})
    else:  # a kernel without one of them: that is what has to be said
        assert (answer["passed"], list(failed)) == (False, ["inspector"])


def test_rejects_update_of_a_gateway_that_is_no_image(lab: RunningLab) -> None:
    done = lab.cli("update", "status", check=False)
    assert (done.returncode, b"not-a-vm" in done.stderr) == (1, True)
    with pytest.raises(ApiError) as raised:
        lab.api.post("/v1/update/commit")
    assert raised.value.code == "no-image"


def test_a_session_is_opened_for_other_programs_and_one_without_a_stream_is_not_carried(
    lab: RunningLab,
) -> None:
    lab.cli("authority", "grant", "--for", "1h")
    (web,) = [one for one in lab.json("peers") if one["name"] == "web"]
    opened = lab.exec("ops", "quotegate-agent", "open", "web", "icmp/echo")
    assert opened.returncode == 0, opened.stderr
    assert re.fullmatch(
        rf"open for \d+ s: icmp/echo of web, {re.escape(web['ip'])}\n", opened.stdout.decode()
    )
    assert [(one["from"], one["to"], one["service"]) for one in lab.json("sessions")] == [
        ("ops", "web", "icmp/echo")
    ]
    for service, says in (("icmp/echo", b"expected tcp/PORT"), ("tcp/0", b"expected ports from 1")):
        done = lab.exec("ops", "quotegate-agent", "connect", "web", service)
        assert (done.returncode, says in done.stderr) == (1, True), done.stderr
    refused = lab.exec("ops", "quotegate-agent", "open", "web", "udp/53")
    assert (refused.returncode, b"no-rule" in refused.stderr) == (3, True), refused.stderr
    lab.cli("session", "cut", lab.json("sessions")[0]["session_id"])


def test_a_granted_session_delivers_and_shows(lab: RunningLab) -> None:
    lab.cli("authority", "grant", "--for", "1h")
    server = subprocess.Popen(
        ["nsenter", f"--net=/run/netns/{lab.lab.peer_namespace('db')}", sys.executable, "-c", SERVER]
    )
    time.sleep(0.4)
    done = lab.exec("web", "quotegate-agent", "connect", "db", "tcp/5432", data=b"x" * 100_000)
    server.wait(5)
    assert done.returncode == 0, done.stderr
    assert b"delivered: sent 100000 bytes, 100000 acknowledged, 100000 confirmed" in done.stderr
    sessions = lab.json("sessions")
    assert [(one["from"], one["to"], one["service"], one["rule"]) for one in sessions] == [
        ("web", "db", "tcp/5432", "web-to-db")
    ]
    unknown = lab.cli("session", "cut", "../peers?", check=False)
    assert (unknown.returncode, b"there is no session" in unknown.stderr) == (1, True)
    cut = lab.cli("session", "cut", sessions[0]["session_id"])
    assert cut.stdout.decode() == f"session {sessions[0]['session_id']} is cut\n"
    assert lab.json("sessions") == []


def test_events_and_audit_agree(lab: RunningLab) -> None:
    lines = lab.cli("events", "--json").stdout.decode().splitlines()
    events = [json.loads(line) for line in lines]
    assert [one["metadata"]["sequence"] for one in events] == list(range(1, len(events) + 1))
    assert {"handshake-completed", "session-granted", "authority-changed"} <= {
        one["metadata"]["event_code"] for one in events
    }
    time.sleep(1.2)
    answer = lab.json("audit", "verify")
    assert (answer["intact"], answer["witnesses"]) == (True, 3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("explain", "web", "nobody", "tcp/1"), "there is no peer"),
        (("explain", "web", "db", "tcp/x"), "expected tcp/PORT"),
        (("peer", "approve", "wbe"), "known are web, db, ops; did you mean web"),
        (("peer", "release", "web"), "not quarantined"),
        (("authority", "grant", "--for", "soon"), "expected a duration"),
        (("policy", "apply", "/nonexistent.toml"), "No such file"),
        (("lab", "tamper", "nobody"), "that runs (db, ops, web); got 'nobody'"),
        (("lab", "exec", "nobody", "--", "true"), "that runs (db, ops, web); got 'nobody'"),
    ],
)
def test_bad_input_gets_one_clear_line(lab: RunningLab, words: tuple[str, ...], says: str) -> None:
    before = lab.api.get("/v1/peers")["peers"]
    done = lab.cli(*words, check=False)
    text = done.stderr.decode()
    assert done.returncode != 0
    assert says in text
    assert "Traceback" not in text
    assert [one["state"] for one in before] == [one["state"] for one in lab.api.get("/v1/peers")["peers"]]


def test_a_broken_policy_disturbs_nothing_and_a_good_one_cuts_what_it_forbids(
    lab: RunningLab, tmp_path: Path
) -> None:
    revision = lab.api.get("/v1/status")["policy_revision"]
    bad = tmp_path / "bad.toml"
    bad.write_text(lab.spec.policy_text.replace('action = "allow"', 'acton = "allow"', 1))
    done = lab.cli("policy", "apply", str(bad), check=False)
    assert b"did you mean" in done.stderr
    assert lab.api.get("/v1/status")["policy_revision"] == revision
    assert lab.cli("policy", "check", str(bad), check=False).returncode == 4
    lab.exec("web", "quotegate-agent", "connect", "db", "tcp/5432")
    good = tmp_path / "good.toml"
    good.write_text(
        lab.spec.policy_text.replace('id = "web-to-db"\nfrom = "web"', 'id = "web-to-db"\nfrom = "ops"')
    )
    answer = lab.json("policy", "apply", str(good))
    assert answer["sessions_cut"] == 1
    assert lab.json("sessions") == []
    lab.cli("policy", "apply", str(_write(tmp_path / "old.toml", lab.spec.policy_text)))


def _write(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


def test_quarantine_and_release(lab: RunningLab) -> None:
    lab.cli("peer", "quarantine", "ops")
    assert lab.peer("ops")["state"] == "quarantined"
    ping = lab.exec("ops", "ping", "-c", "1", "-W", "1", str(lab.spec.machine("db").ip))
    assert ping.returncode != 0
    assert lab.api.get("/v1/status")["drops"]["peer-quarantined"] > 0
    lab.cli("peer", "release", "ops")
    lab.until(lambda: lab.peer("ops")["state"] == "trusted")


def test_an_operators_restart_is_a_real_one(lab: RunningLab) -> None:
    before = lab.peer("ops")["reset_count"]
    lab.cli("peer", "restart", "ops")
    lab.until(lambda: lab.peer("ops")["state"] == "trusted" and lab.peer("ops")["reset_count"] > before)


def test_revoked_authority_ends_everything(lab: RunningLab) -> None:
    lab.cli("authority", "revoke")
    assert lab.json("sessions") == []
    assert lab.json("authority", "show")["state"] == "absent"
