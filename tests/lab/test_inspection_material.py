"""The operator's files in a live gateway: taken while it runs, all at once; a broken one takes nothing down."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.filters.inspection.clamd import BAD, clamd
from tests.filters.inspection.drive import answer
from tests.filters.inspection.fingerprints.documents import prose
from tests.filters.inspection.test_objects import zipped
from tests.lab.conftest import RunningLab, running
from tests.lab.inspected import Service, client, found
from vmhost.lab.defaults import default_spec
from vmhost.monitor.client import ask
from vmhost.names import INSPECTOR_UID, Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]
PORT = 8080
INSPECT = 'inspect = { detectors = ["secrets", "malware", "patterns"] }'
CLAMD_PORT, RULES_PORT = 9091, 9093
CLAMD = f"""
[[rule]]
id = "web-to-db-clamd"
from = "web"
to = "db"
service = "tcp/{CLAMD_PORT}"
action = "allow"
open = "on-demand"
inspect = {{ detectors = ["clamd"] }}

[[rule]]
id = "web-to-db-rules"
from = "web"
to = "db"
service = "tcp/{RULES_PORT}"
action = "allow"
open = "on-demand"
inspect = {{ detectors = ["rules"] }}
"""
DOCUMENTS_PORT = 9092
DOCUMENTS = f"""
[[rule]]
id = "web-to-db-documents"
from = "web"
to = "db"
service = "tcp/{DOCUMENTS_PORT}"
action = "allow"
open = "on-demand"
inspect = {{ detectors = ["fingerprints"] }}
"""
GET = b"GET / HTTP/1.1\r\nHost: db\r\nConnection: close\r\n\r\n"
PATTERN = '[[pattern]]\nid = "{0}"\nexpression = "Project {0} [0-9]+"\n'


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    spec = default_spec(Lab(f"m{os.getpid() % 100000}"))
    text = (
        spec.policy_text.replace(f'service = "tcp/{PORT}"', f'service = "tcp/{PORT}"\n{INSPECT}')
        + CLAMD
        + DOCUMENTS
    )
    with running(replace(spec, policy_text=text)) as one:
        one.cli("authority", "grant", "--for", "1h")
        one.until(lambda: one.json("status")["inspectors"] == 1)
        yield one


def inspection(lab: RunningLab) -> dict[str, list[str]]:
    (one,) = lab.json("status")["inspection"]
    return dict(one)


def asked(lab: RunningLab, body: bytes, port: int = PORT) -> str:
    process = Service(lab, port)(answer(body))
    try:
        return client(lab, port, GET)[1]
    finally:
        process.kill()
        process.wait(5)


def put(lab: RunningLab, name: str, text: str) -> Path:
    """Write as an operator should: whole, then renamed."""
    path: Path = lab.lab.material / name
    temporary = path.with_name(f".{name}")
    temporary.write_text(text)
    return temporary.replace(path)


def test_operators_files_come_and_go_while_it_runs(lab: RunningLab) -> None:
    pid = ask(lab.lab, "status")["gateway"]["pids"]["inspector"]
    since = lab.last_sequence()
    assert asked(lab, b"nothing") == "reset"  # the rule demands patterns, and there are none
    assert found(lab, since) == ["material"]

    put(lab, "own.toml", PATTERN.format("alpha"))
    lab.until(lambda: inspection(lab)["files"] == ["own.toml"])
    assert asked(lab, b"nothing") == "closed"
    since = lab.last_sequence()
    assert asked(lab, b"Project alpha 1 ") == "reset"
    assert found(lab, since) == ["patterns.alpha"]
    assert asked(lab, b"Project beta 1 ") == "closed"

    put(lab, "own.yar", "rule own { strings: $a = { 00 6f 77 6e 62 61 64 } condition: $a }")
    put(lab, "own.toml", PATTERN.format("beta"))
    lab.until(lambda: inspection(lab)["files"] == ["own.toml", "own.yar"])
    assert asked(lab, b"Project alpha 1 ") == "closed"
    since = lab.last_sequence()
    assert asked(lab, b"Project beta 1 ") == "reset"
    assert asked(lab, b"x\0ownbad") == "reset"  # judged in a process of its own
    lab.until(lambda: len(lab.events(since, "content-found")) == 2)
    assert found(lab, since) == ["patterns.beta", "yara.own"]

    since = lab.last_sequence()
    put(lab, "own.toml", "[[broken")
    put(lab, "bad.yar", "rule bad { condition: nonsense }")
    lab.until(lambda: len(inspection(lab)["bad"]) == 2)
    assert [one.partition(":")[0] for one in inspection(lab)["bad"]] == ["bad.yar", "own.toml"]
    assert "its former content stays in use" in inspection(lab)["bad"][1]
    (event,) = lab.events(since, "material-taken")[-1:]
    assert event["severity_id"] >= 4
    assert asked(lab, b"Project beta 1 ") == "reset"
    assert asked(lab, b"x\0ownbad") == "reset"
    assert asked(lab, b"nothing") == "closed"

    assert ask(lab.lab, "status")["gateway"]["pids"]["inspector"] == pid


def test_a_real_clamd_is_asked_and_when_it_is_away_nothing_passes(lab: RunningLab, tmp_path: Path) -> None:
    since = lab.last_sequence()
    assert asked(lab, b"clean", CLAMD_PORT) == "reset"
    assert found(lab, since) == ["material"]
    link = lab.lab.material / "clamd.sock"
    with clamd(tmp_path) as path:
        for directory in (tmp_path, *list(tmp_path.parents)[:3]):
            directory.chmod(0o755)  # as /run/clamav is
        link.symlink_to(path)
        assert asked(lab, b"clean", CLAMD_PORT) == "closed"
        since = lab.last_sequence()
        assert asked(lab, BAD, CLAMD_PORT) == "reset"
        assert found(lab, since) == ["clamd.Own.Test.UNOFFICIAL"]
        waiting = socket.socket(socket.AF_UNIX)
        waiting.bind(str(tmp_path / "silent"))
    link.unlink()
    link.symlink_to(tmp_path / "silent")  # it is there, and nobody listens
    since = lab.last_sequence()
    assert asked(lab, b"clean", CLAMD_PORT) == "reset"
    assert found(lab, since) == ["clamd"]
    waiting.close()


def test_a_suricata_alert_is_told_and_a_drop_cuts(lab: RunningLab) -> None:
    rules = "".join(
        f'{action} http any any -> any any (msg:"{action}"; flow:established,to_client; file.data; '
        f'content:"{action} this"; sid:{number};)\n'
        for number, action in enumerate(("alert", "drop"), 1)
    )
    put(lab, "own.rules", rules + 'alert tcp any any -> any any (content:"x"; byte_jump:1,0; sid:3;)\n')
    lab.until(lambda: "own.rules" in inspection(lab)["files"])
    assert "1 of 3 Suricata rules are not in force" in inspection(lab)["notes"][0]
    since = lab.last_sequence()
    assert asked(lab, b"please alert this now", RULES_PORT) == "closed"
    assert found(lab, since) == ["suricata.1:1"]
    assert lab.events(since, "content-found")[0]["disposition_id"] == 19
    since = lab.last_sequence()
    assert asked(lab, b"please drop this now", RULES_PORT) == "reset"
    assert found(lab, since) == ["suricata.1:2"]


def test_inspectors_say_what_confines_them(lab: RunningLab) -> None:
    pid = ask(lab.lab, "status")["gateway"]["pids"]["inspector"]
    status = dict(
        line.split(":\t", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":\t" in line
    )
    assert inspection(lab)["confined"][-1] == "seccomp"
    assert (status["Seccomp"], status["NoNewPrivs"]) == ("2", "1")


def test_protected_documents_are_recognised_from_the_moment_they_are_added(
    lab: RunningLab, tmp_path: Path
) -> None:
    document, path = tmp_path / "plan.txt", lab.lab.material / "fingerprints.qgp"
    document.write_bytes(prose(1))
    assert asked(lab, prose(2), DOCUMENTS_PORT) == "reset"  # there is no set yet
    lab.cli("fingerprint", "add", str(document), "--set", str(path.with_name(".new")))
    os.chown(path.with_name(".new"), -1, INSPECTOR_UID)
    path.with_name(".new").chmod(0o640)
    path.with_name(".new").replace(path)
    lab.until(lambda: "fingerprints.qgp" in inspection(lab)["files"])

    assert asked(lab, prose(2), DOCUMENTS_PORT) == "closed"
    since = lab.last_sequence()
    assert asked(lab, b"see: " + prose(1)[700:1300], DOCUMENTS_PORT) == "reset"
    assert asked(lab, zipped({"x.txt": prose(1)[2000:3000]}), DOCUMENTS_PORT) == "reset"
    lab.until(lambda: len(lab.events(since, "content-found")) == 2)
    assert found(lab, since) == ["fingerprints.plan.txt"] * 2

    document.write_bytes(prose(3))
    assert asked(lab, prose(3), DOCUMENTS_PORT) == "closed"
    lab.cli("fingerprint", "add", str(document), "--name", "budget", "--set", str(path))
    lab.until(lambda: asked(lab, prose(3), DOCUMENTS_PORT) == "reset")
