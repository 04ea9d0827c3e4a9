"""Attackers that are programs of their own, with TPMs of their own, against one lab (tests/attackers).

Each is refused for the documented reason, and who was named or meant is as before.
"""

import json
import os
import shutil
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from gateway.cli.demo.capture import Capture
from gateway.rpc import encode
from tests.foreign.appraisal import name
from tests.foreign.tpm import AK, Tpm
from tests.lab.conftest import RunningLab, running
from vmhost.lab.defaults import default_spec
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]
ATTACKERS = "tests.attackers"
SLACK_S = 0.050
PORT = 8080  # the rule lets web's first packet to db open the session


@pytest.fixture(scope="module")
def lab() -> Iterator[RunningLab]:
    """Many of these attackers are restarted for what they do: the budget is not what is tested here."""
    spec = default_spec(Lab(f"x{os.getpid()}"))
    patient = spec.policy_text.replace("max_restarts = 3", "max_restarts = 100")
    assert patient != spec.policy_text
    with running(replace(spec, policy_text=patient)) as one:
        one.cli("authority", "grant", "--for", "1h")
        yield one


def attack(lab: RunningLab, place: str, program: str, *words: object) -> dict[str, str]:
    """Run an attacker in a place; return the gateway's answer by attack."""
    said = lab.run(place, f"{ATTACKERS}.{program}", *words)
    return {one["attack"]: one["answer"] for one in said if "answer" in one}


def standing(lab: RunningLab, *peers_named: str) -> list[Any]:
    """What must not change of a peer that is only named."""
    peers = [lab.peer(one) for one in peers_named]
    return [(one["state"], one["restarts"], one["session_id"], one["reset_count"]) for one in peers]


@contextmanager
def unharmed(lab: RunningLab, *names: str) -> Iterator[None]:
    """These peers are trusted, in the same session and never restarted, before and after."""
    before = standing(lab, *names)
    assert {one[0] for one in before} == {"trusted"}
    yield
    assert standing(lab, *names) == before


def test_relayed_attestation_is_refused(lab: RunningLab) -> None:
    since = lab.last_sequence()
    with unharmed(lab, "db", "web", "ops"):
        answers = attack(lab, "ops", "relay", lab.setup("ops"), lab.setup("db"), "handshake")
    assert answers == {"own-name": "wrong-ak", "its-name": "wrong-place", "its-key": "tpm-clone"}
    assert lab.failures(since) == [("ops", code, False) for code in answers.values()]


def test_relayed_beacon_answers_are_refused(lab: RunningLab) -> None:
    since = lab.last_sequence()
    with unharmed(lab, "db", "web"), lab.without_agent("ops"):
        answers = attack(lab, "ops", "relay", lab.setup("ops"), lab.setup("db"), "session")
    assert answers == {"its-beacons": "cut"}
    assert lab.failures(since) == [("ops", "wrong-ak", True)]


def test_replayed_messages_and_records_are_refused(lab: RunningLab) -> None:
    since = lab.last_sequence()
    with unharmed(lab, "db", "web"), lab.without_agent("ops"):
        answers = attack(lab, "ops", "replay", lab.setup("ops"), "record")
    assert answers == {"repeated-record": "cut", "old-handshake": "bad-record", "old-record": "cut"}
    assert lab.failures(since) == [("ops", "bad-record", False)] * 3


def test_a_replayed_quote_is_refused(lab: RunningLab) -> None:
    since = lab.last_sequence()
    with unharmed(lab, "db", "web"), lab.without_agent("ops"):
        assert attack(lab, "ops", "replay", lab.setup("ops"), "quote") == {"old-quote": "cut"}
    assert lab.failures(since) == [("ops", "replayed-nonce", True)]


def test_the_gateways_own_handshake_sent_back_is_refused(lab: RunningLab) -> None:
    since = lab.last_sequence()
    with unharmed(lab, "db", "web", "ops"):
        answers = attack(lab, "ops", "reflection", lab.setup("ops"), "handshake")
    assert answers == {"own-m2": "malformed-message", "own-quote": "wrong-ak"}
    assert lab.failures(since) == [("ops", code, False) for code in answers.values()]


def test_the_gateways_own_records_sent_back_are_refused(lab: RunningLab) -> None:
    since = lab.last_sequence()
    with unharmed(lab, "db", "web"), lab.without_agent("ops"):
        answers = attack(lab, "ops", "reflection", lab.setup("ops"), "record")
    assert answers == {"own-m4": "cut", "own-record": "cut"}
    assert lab.failures(since) == [("ops", "malformed-message", False), ("ops", "bad-record", False)]


def test_the_gateways_own_proof_sent_back_is_refused(lab: RunningLab) -> None:
    since = lab.last_sequence()
    with unharmed(lab, "db", "web"), lab.without_agent("ops"):
        assert attack(lab, "ops", "reflection", lab.setup("ops"), "proof") == {"own-proof": "cut"}
    assert lab.failures(since) == [("ops", "wrong-ak", True)]


def test_an_impostor_without_the_tpm_is_refused_in_the_victims_own_place(lab: RunningLab) -> None:
    since = lab.last_sequence()
    ak_public = Tpm(str(lab.lab.tpm_socket("db"))).public(AK)
    with unharmed(lab, "db", "web", "ops"):
        answers = attack(lab, "db", "impostor", lab.setup("db"), name(ak_public).hex())
    assert answers == {"no-keys": "bad-record", "no-mac": "wrong-mac", "no-signature": "wrong-ak"}
    assert lab.failures(since) == [("db", code, False) for code in answers.values()]


def test_downgraded_offers_are_refused(lab: RunningLab) -> None:
    since = lab.last_sequence()
    with unharmed(lab, "db", "web", "ops"):
        answers = attack(lab, "web", "downgrade", lab.setup("web"), "offer")
    offers = ("version 0", "version 2", "suite 0", "suite 2", "profile")
    assert answers == {**dict.fromkeys(offers, "unsupported-version"), "other-layer": "malformed-message"}
    assert lab.failures(since) == [("web", code, False) for code in answers.values()]


def test_fewer_pcrs_than_wanted_are_refused_and_held_against_the_peer(lab: RunningLab) -> None:
    since, restarts = lab.last_sequence(), lab.peer("web")["restarts"]
    with unharmed(lab, "db", "ops"):
        answers = attack(lab, "web", "downgrade", lab.setup("web"), "evidence")
        lab.until(lambda: standing(lab, "web")[0][:2] == ("trusted", restarts + 1))
    assert answers == {"fewer-pcrs": "relabelled-pcr"}
    assert lab.failures(since) == [("web", "relabelled-pcr", True)]


def copied(lab: RunningLab, peer: str, target: Path) -> Path:
    """Copy a running TPM's state, as whoever reads the host's disk can."""
    shutil.copytree(lab.lab.state_dir / "tpm" / peer, target)
    return target


def test_a_cloned_tpm_at_another_place_is_refused(lab: RunningLab, tmp_path: Path) -> None:
    since = lab.last_sequence()
    with unharmed(lab, "db", "web", "ops"):
        state = copied(lab, "db", tmp_path / "copy")
        answers = attack(lab, "ops", "clone", lab.setup("ops"), lab.setup("db"), state, "elsewhere")
    assert answers == {"its-name": "wrong-place", "own-name": "tpm-clone", "enrolled-here": "wrong-place"}
    assert lab.failures(since) == [("ops", code, False) for code in answers.values()]


def test_a_cloned_tpm_at_the_same_place_is_found_when_the_original_is_heard(
    lab: RunningLab, tmp_path: Path
) -> None:
    since, resets = lab.last_sequence(), lab.peer("db")["reset_count"]
    with unharmed(lab, "web", "ops"):
        state = copied(lab, "db", tmp_path / "copy")
        begun = time.monotonic()
        said = lab.run("db", f"{ATTACKERS}.clone", lab.setup("db"), lab.setup("db"), state, "here")
        assert time.monotonic() - begun < 3
        # the copy has used up one count: only a TPM that has been restarted more often is heard again
        lab.until(
            lambda: standing(lab, "db")[0][0] == "trusted" and lab.peer("db")["reset_count"] > resets + 1
        )
    assert [one["attack"] for one in said] == ["took-over", "take-over"]
    assert said[1]["answer"] == "cut"
    assert lab.peer("db")["session_id"] != said[0]["session"]
    assert lab.failures(since)[0] == ("db", "tpm-clone", True)


def agent_says(path: Path) -> str:
    """Ask an agent how it stands."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(2)
        sock.connect(str(path))
        sock.sendall(encode({"op": "status"}))
        (length,) = struct.unpack(">I", sock.recv(4, socket.MSG_WAITALL))
        answer = json.loads(sock.recv(length, socket.MSG_WAITALL))
    return f"{answer['state']} {answer['detail']}"


@contextmanager
def started(lab: RunningLab, place: str, program: str, *words: object) -> Iterator["subprocess.Popen[str]"]:
    process = lab.start(place, program, *words)
    try:
        yield process
    finally:
        # not `communicate`: what a program left behind may hold its pipes, until the lab goes down
        process.kill()
        process.wait(5)
        for pipe in (process.stdin, process.stdout, process.stderr):
            if pipe is not None:
                with suppress(BrokenPipeError):
                    pipe.close()


ALTERED = {
    "foreign-index": "wrong-batch-proof",
    "index-beyond-size": "wrong-batch-proof",
    "foreign-size": "replayed-nonce",
    "size-beyond-all": "malformed-message",
    "another-signer": "wrong-ak",
    "earlier-m2": "replayed-nonce",
    "own-share": "replayed-nonce",
    "fewer-pcrs": "relabelled-pcr",
    "another-name": "wrong-gateway",
}


def test_a_foreign_gateway_is_refused_by_the_real_agent(lab: RunningLab, tmp_path: Path) -> None:
    """A second agent of ops is led to a gateway that passes the real one's messages on, altered."""
    setup = json.loads(Path(lab.setup("ops")).read_text())
    setup |= {"gateway_ip": "127.0.0.1", "control_port": 7555, "state_dir": str(tmp_path)}
    setup |= {"control_socket": str(tmp_path / "agent.sock"), "monitor_socket": None}
    led_astray = tmp_path / "setup.json"
    led_astray.write_text(json.dumps(setup))
    with (
        unharmed(lab, "db", "web", "ops"),
        started(lab, "ops", f"{ATTACKERS}.foreign_gateway", lab.setup("ops"), 7555) as foreign,
        started(lab, "ops", "gateway.agent.main", "run", "--setup", led_astray),
    ):
        assert foreign.stdin is not None and foreign.stdout is not None
        for alteration, code in ALTERED.items():
            foreign.stdin.write(f"{alteration}\n")
            foreign.stdin.flush()
            while (said := json.loads(foreign.stdout.readline()))["alteration"] != alteration:
                pass
            assert said["said"] is None, "the agent said something to an altered m2"
            lab.until(said_by(tmp_path / "agent.sock", f"gateway-refused {code}: "))


def said_by(path: Path, wanted: str) -> Callable[[], bool]:
    return lambda: agent_says(path).startswith(wanted)


def test_others_attest_while_one_trickles(lab: RunningLab) -> None:
    since = lab.last_sequence()
    with (
        unharmed(lab, "db", "ops"),
        started(lab, "ops", f"{ATTACKERS}.slow_loris", lab.setup("ops"), 7.5) as loris,
    ):
        assert loris.stdout is not None
        loris.stdout.readline()
        resets, begun = lab.peer("web")["reset_count"], time.monotonic()
        lab.api.post("/v1/peers/web/restart")
        lab.until(lambda: standing(lab, "web")[0][0] == "trusted" and lab.peer("web")["reset_count"] > resets)
        assert time.monotonic() - begun < 5, "the trickling handshake was still under way"
        assert json.loads(loris.stdout.readline()) == {"answers": ["handshake-timeout"]}
    assert lab.failures(since)[0] == ("ops", "handshake-timeout", False)


def kernel_drops(lab: RunningLab, reason: str) -> int:
    return int(lab.api.get("/v1/status")["drops"].get(reason, 0))


@contextmanager
def sink(lab: RunningLab) -> Iterator[None]:
    with started(lab, "db", "gateway.cli.demo.programs", "sink", PORT):
        listening = ["ss", "-Htln", f"sport = :{PORT}"]
        lab.until(lambda: lab.exec("db", *listening).stdout.strip())
        yield


def test_handshakes_left_midway_spoil_no_later_one(lab: RunningLab) -> None:
    """Each must leave nothing behind, least of all a quote that goes to the handshake after it."""
    with unharmed(lab, "web", "db"), lab.without_agent("ops"):
        assert attack(lab, "ops", "hangup", lab.setup("ops"), 60) == {"hangup": "done"}
        answers = attack(lab, "ops", "relay", lab.setup("ops"), lab.setup("db"), "session")
    assert answers == {"its-beacons": "cut"}  # it attested honestly first


def test_a_thousand_forged_handshakes_change_nothing(lab: RunningLab, tmp_path: Path) -> None:
    since, dropped = lab.last_sequence(), kernel_drops(lab, "resource-limit")
    web, db = (str(lab.spec.machine(one).ip) for one in ("web", "db"))
    with sink(lab), started(lab, "web", "gateway.cli.demo.programs", "chatter", db, PORT, 2) as chatter:
        assert chatter.stdout is not None
        assert chatter.stdout.readline() == "connected\n"
        capture = Capture.start(
            lab.lab.peer_namespace("db"), f"tcp dst port {PORT} and src host {web}", tmp_path
        )
        with unharmed(lab, "db", "web", "ops"):
            begun = time.time()
            (said,) = lab.run("ops", f"{ATTACKERS}.forged_flood", lab.setup("ops"), lab.setup("db"), 1000)
            ended = time.time()
        times = [at for at, _ in capture.stop() if begun <= at <= ended]
    outcomes = said["outcomes"]
    gap = max(later - earlier for earlier, later in pairwise(times))
    print(f"flood: {said}; {len(times)} packets of the flow meanwhile, longest gap {gap * 1000:.0f} ms")
    assert sum(outcomes.values()) == 1000
    assert set(outcomes) <= {"dropped", "hung-up", "wrong-place"}
    assert outcomes["wrong-place"] > 0
    assert kernel_drops(lab, "resource-limit") > dropped
    assert set(lab.failures(since)) == {("ops", "wrong-place", False)}
    assert len(times) > 100
    assert gap <= lab.spec.beacon_interval_ms / 1000 + SLACK_S


def test_who_answers_and_then_changes_is_cut_by_the_next_beacon(lab: RunningLab, tmp_path: Path) -> None:
    since, restarts = lab.last_sequence(), lab.peer("web")["restarts"]
    web, db = (str(lab.spec.machine(one).ip) for one in ("web", "db"))
    with unharmed(lab, "db", "ops"), sink(lab), lab.without_agent("web"):
        capture = Capture.start(
            lab.lab.peer_namespace("db"), f"tcp dst port {PORT} and src host {web}", tmp_path
        )
        said = lab.run("web", f"{ATTACKERS}.turncoat", lab.setup("web"), db, PORT)
        time.sleep(0.5)
        times = [at for at, _ in capture.stop()]
    changed_at = next(one["changed_at"] for one in said if "changed_at" in one)
    last = max(times) - changed_at
    print(f"turncoat: {len(times)} packets, the last {last * 1000:.0f} ms after the change")
    assert said[-1] == {"answer": "cut"}
    assert sum(at < changed_at for at in times) > 100
    assert last <= lab.spec.beacon_interval_ms / 1000 + SLACK_S
    assert lab.failures(since) == [("web", "pcr-mismatch", True)]
    assert lab.peer("web")["restarts"] == restarts + 1
