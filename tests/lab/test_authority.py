"""Authority against a running lab: who may change anything, which grants are refused, how fast its end cuts."""

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from gateway.api.routes import ROUTES, Permission, Route
from gateway.api.server import handlers
from gateway.authority.gate import create_grant
from gateway.cli.client import ApiError
from gateway.cli.demo.observe import Observer
from tests.lab.conftest import RunningLab
from vmhost.commands import in_namespace
from vmhost.lab.provisioning import load_administrator_key
from vmhost.lab.setup import PROJECT
from vmhost.names import AGENT_UID, GATEWAY_UID

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]
assert handlers  # importing it registers the routes

NOBODY = 65534
PORT = 5432
REVOKED_S, EXPIRED_S = 0.005, 1.0
CALL = """
import http.client, json, socket, sys
path, calls = sys.argv[1], json.load(sys.stdin)
for method, target, body in calls:
    connection = http.client.HTTPConnection("gateway")
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(path)
    connection.request(method, target, json.dumps(body))
    answer = connection.getresponse()
    print(json.dumps([answer.status, answer.read(500).decode()]))
"""


def sign(lab: RunningLab, seconds: float = 3600, above: int = 1, **different: Any) -> bytes:
    """Sign a grant as the administrator; `different` makes it a bad one."""
    now, key = time.time(), different.pop("key", load_administrator_key(lab.lab))
    sequence = lab.api.get("/v1/authority")["sequence"] + above
    return create_grant(sequence, now + seconds, key, **{"not_before": now, **different})


def hand_in(lab: RunningLab, grant: bytes) -> dict[str, Any]:
    return lab.api.post("/v1/authority/grant", grant=grant.decode())


def state_of(lab: RunningLab) -> dict[str, Any]:
    """Everything an operator can change; what time changes by itself is left out."""
    status = lab.api.get("/v1/status")
    kept = ("name", "state", "restarts", "session_id", "reset_count", "enrollment", "ek_fingerprint")
    return {
        "authority": lab.api.get("/v1/authority"),
        "policy": status["policy_revision"],
        "epoch": status["epoch"],
        "sessions": [one["session_id"] for one in lab.json("sessions")],
        "peers": [{name: one[name] for name in kept} for one in lab.json("peers")],
        "acts": [
            one["message"]
            for one in _events(lab)
            if one["metadata"]["event_code"]
            not in ("session-refused", "flow-dropped", "packets-dropped", "events-lost", "events-counted")
        ],
    }


def _events(lab: RunningLab) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    while batch := lab.api.get(f"/v1/events?after={found[-1]['metadata']['sequence'] if found else 0}")[
        "events"
    ]:
        found += batch
    return found


# ---- grants ----


@pytest.mark.parametrize(
    ("different", "code"),
    [
        ({"above": 0}, "replayed"),
        ({"seconds": -1}, "expired"),
        ({"scope": "everything"}, "out-of-scope"),
        ({"key": Ed25519PrivateKey.generate()}, "wrong-key"),
        ({"role": "user"}, "wrong-role"),
        ({"not_before": time.time() + 600}, "from-the-future"),
    ],
    ids=lambda one: one if isinstance(one, str) else "",
)
def test_rejects_a_bad_grant_and_stays_closed(lab: RunningLab, different: dict[str, Any], code: str) -> None:
    if code == "replayed":
        hand_in(lab, sign(lab))
        lab.api.post("/v1/authority/revoke")
    before = state_of(lab)
    with pytest.raises(ApiError) as caught:
        hand_in(lab, sign(lab, **different))
    assert caught.value.code == code
    assert state_of(lab) == before
    refused = lab.exec("web", "quotegate-agent", "connect", "db", f"tcp/{PORT}")
    assert (refused.returncode, b"communication-disabled" in refused.stderr) == (3, True)


# ---- strangers ----


@dataclass(frozen=True)
class Calls:
    """Calls of every route that would succeed if its permission were not asked for."""

    lab: RunningLab

    def of(self, route: Route) -> tuple[str, str, dict[str, Any]]:
        lab = self.lab
        sessions = [one["session_id"] for one in lab.json("sessions")]
        path = route.path.replace("{name}", "web").replace(
            "{session_id}", sessions[0] if sessions else "none"
        )
        assert "{" not in path, f"say here what stands for the parameter of {route.path}"
        body = {
            "text": lab.spec.policy_text + "\n# changed\n", "file": "x.toml", "ek": "sha256:" + "0" * 64,
            "grant": sign(lab).decode(), "from": "web", "to": "db", "service": f"tcp/{PORT}", "known_heads": [],
        }  # fmt: skip
        return route.method, path, {name: value for name, value in body.items() if name in route.takes}


def call_as(lab: RunningLab, uid: int, calls: list[tuple[str, str, dict[str, Any]]]) -> list[tuple[int, str]]:
    drop = [
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
    ]
    done = subprocess.run(
        [*drop, "--no-new-privs", "--", "/usr/bin/python3", "-c", CALL, str(lab.lab.api_socket)],
        input=json.dumps(calls), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [tuple(json.loads(line)) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("uid", [NOBODY, AGENT_UID, GATEWAY_UID])
def test_a_stranger_reads_and_changes_nothing_on_any_route(lab: RunningLab, uid: int) -> None:
    hand_in(lab, sign(lab))
    opened = lab.exec("web", "quotegate-agent", "connect", "db", f"tcp/{PORT}")
    assert b"communication-disabled" not in opened.stderr
    assert lab.json("sessions")
    changing = [route for route in ROUTES if route.permission is Permission.ADMINISTER]
    reading = [route for route in ROUTES if route.permission is Permission.READ]
    assert len(changing) > 8
    calls, before = Calls(lab), state_of(lab)
    answers = call_as(lab, uid, [calls.of(route) for route in changing])
    assert [status for status, _ in answers] == [403] * len(changing), list(
        zip(changing, answers, strict=True)
    )
    assert all(f"uid {uid} may read, not change" in text for _, text in answers)
    assert state_of(lab) == before
    answers = call_as(lab, uid, [calls.of(route) for route in reading])
    assert [status for status, _ in answers] == [200] * len(reading), list(zip(reading, answers, strict=True))
    assert state_of(lab) == before
    lab.api.post("/v1/authority/revoke")


# ---- how fast ----


@dataclass
class Bed:
    """A transfer from web to db, seen by a capture at db; and the kernel's own word of the authority's removal."""

    lab: RunningLab
    see: Observer

    def cut_by(self, cause: Callable[[], object], wait_s: float) -> tuple[list[float], list[float]]:
        """Return when packets came, and when the kernel's set `authority` lost its element (s since the epoch)."""
        # before anybody listens: the command ends, the session stays
        self.lab.until(
            lambda: (
                self.lab.exec("web", "quotegate-agent", "connect", "db", f"tcp/{PORT}")
                and self.lab.json("sessions")
            )
        )
        sink = self.see.spawn("db", "sink", PORT)
        time.sleep(0.4)
        chatter = self._chatter()
        db, web = self.lab.spec.machine("db"), self.lab.spec.machine("web")
        capture = self.see.capture("db", f"tcp dst port {PORT} and src host {web.ip} and dst host {db.ip}")
        kernel = subprocess.Popen(
            in_namespace(
                self.lab.lab.gateway_namespace,
                [sys.executable, "-m", "tests.lab.kernel_clock", "authority"],
            ),
            stdout=subprocess.PIPE, text=True, cwd=PROJECT,
        )  # fmt: skip
        assert kernel.stdout is not None
        assert kernel.stdout.readline() == "listening\n"
        time.sleep(0.3)
        cause()
        time.sleep(wait_s)
        times = [when for when, packet in capture.stop() if not _is_reset(packet)]
        for one in (kernel, chatter, sink):
            one.kill()
            one.wait(5)
        return times, [float(line) for line in kernel.stdout]

    def _chatter(self) -> "subprocess.Popen[str]":
        chatter = self.see.spawn("web", "chatter", self.lab.spec.machine("db").ip, PORT, 1)
        assert chatter.stdout is not None
        assert chatter.stdout.readline().startswith("connected")
        return chatter


def _is_reset(packet: bytes) -> bool:
    return bool(packet[(packet[0] & 15) * 4 + 13] & 4)


@pytest.fixture
def bed(lab: RunningLab) -> Iterator[Bed]:
    see = Observer(lab.lab)
    try:
        yield Bed(lab, see)
    finally:
        see.close()
        lab.api.post("/v1/authority/revoke")


def test_revocation_cuts_a_running_transfer_within_5_ms(lab: RunningLab, bed: Bed) -> None:
    hand_in(lab, sign(lab))
    answered: list[float] = []

    def revoke() -> None:
        lab.api.post("/v1/authority/revoke")
        answered.append(time.time())

    times, removed = bed.cut_by(revoke, 0.5)
    at = removed[0]
    assert sum(when < at for when in times) > 100
    late = max(times) - at
    print(f"revoked: the last packet came {late * 1000:.2f} ms after the kernel's change")
    assert late <= REVOKED_S
    assert max(times) <= answered[0] + REVOKED_S
    assert lab.json("sessions") == []


def test_expiry_cuts_a_running_transfer_within_a_second(lab: RunningLab, bed: Bed) -> None:
    ends: list[float] = []

    def shorten() -> None:
        grant = sign(lab, seconds=1.5)
        ends.append(json.loads(grant)["document"]["not_after"])
        hand_in(lab, grant)

    hand_in(lab, sign(lab))
    times, _ = bed.cut_by(shorten, 1.5 + EXPIRED_S + 0.5)
    late = max(times) - ends[0]
    print(f"expired: the last packet came {late * 1000:.1f} ms after the grant's end")
    assert sum(when < ends[0] for when in times) > 100
    assert -0.1 < late <= EXPIRED_S
    assert lab.json("authority", "show")["state"] == "expired"
