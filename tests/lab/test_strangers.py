"""Attackers on the control port and inside the gateway's machine, against a running lab."""

import contextlib
import subprocess
import sys
from pathlib import Path

import pytest

from authn.fields import FrameType, Writer, encode_frame
from authn.handshake_messages import M1
from tests.lab.conftest import RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]

SEND = """
import socket, sys
for _ in range(int(sys.argv[3])):
    try:
        with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=2) as peer:
            peer.sendall(bytes.fromhex(sys.argv[4]))
            peer.settimeout(1)
            peer.recv(65536)
    except OSError:
        pass
"""


def from_ops(lab: RunningLab, data: bytes, times: int = 1) -> None:
    lab.exec(
        "ops",
        sys.executable,
        "-c",
        SEND,
        str(lab.spec.gateway.ip),
        str(lab.spec.control_port),
        str(times),
        data.hex(),
    )


def test_forged_handshakes_in_dbs_name_change_nothing_of_db(lab: RunningLab) -> None:
    before = lab.peer("db")
    forged = M1("lab/db", b"\0\x0b" + bytes(32), bytes(32), bytes(31) + b"\x09", "lab-gateway").encode()
    named = M1(
        f"{lab.lab.name}/db", b"\0\x0b" + bytes(32), bytes(32), bytes(31) + b"\x09", "lab-gateway"
    ).encode()
    for m1 in (forged, named):
        from_ops(lab, encode_frame(FrameType.M1, m1), times=20)
    after = lab.peer("db")
    assert (after["state"], after["restarts"], after["session_id"]) == (
        "trusted",
        before["restarts"],
        before["session_id"],
    )
    assert lab.peer("ops")["state"] == "trusted"


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\0" * 100, b"\xff" * 100, b"GET / HTTP/1.1\r\n\r\n",
        encode_frame(FrameType.RECORD, b"x" * 50), encode_frame(FrameType.M3, b"x" * 50),
        encode_frame(FrameType.ENROLL_HELLO, Writer().text("lab/db").blob(b"x").blob(b"y").blob(b"z").finish()),
        encode_frame(FrameType.M1, b"\x02" + bytes(50)),
    ],
)  # fmt: skip
def test_garbage_changes_nothing(lab: RunningLab, data: bytes) -> None:
    before = lab.api.get("/v1/peers")["peers"]
    from_ops(lab, data)
    after = lab.api.get("/v1/peers")["peers"]
    assert [(one["state"], one["restarts"], one["session_id"]) for one in before] == [
        (one["state"], one["restarts"], one["session_id"]) for one in after
    ]


def _as(uid: int, namespace: str, *argv: str) -> "subprocess.CompletedProcess[bytes]":
    drop = [
        "setpriv",
        f"--reuid={uid}",
        f"--regid={uid}",
        "--clear-groups",
        "--bounding-set=-all",
        "--inh-caps=-all",
        "--no-new-privs",
        "--",
    ]
    return subprocess.run(
        ["nsenter", f"--net=/run/netns/{namespace}", "--", *drop, *argv],
        capture_output=True,
        check=False,
        timeout=10,
    )


def test_a_stranger_on_the_unix_sockets_only_reads(lab: RunningLab) -> None:
    namespace = lab.lab.gateway_namespace
    call = f"""
import http.client, json, socket
connection = http.client.HTTPConnection("gateway")
connection.sock = socket.socket(socket.AF_UNIX)
connection.sock.connect({str(lab.lab.api_socket)!r})
connection.request("POST", "/v1/authority/revoke", "{{}}")
print(connection.getresponse().status)
"""
    assert _as(65534, namespace, "/usr/bin/python3", "-c", call).stdout.strip() == b"403"
    monitor = f"""
import socket, struct
peer = socket.socket(socket.AF_UNIX); peer.connect({str(lab.lab.monitor_socket)!r})
body = b'{{"op": "restart_peer", "peer": "web"}}'
peer.sendall(struct.pack(">I", len(body)) + body)
print(peer.recv(4096)[4:])
"""
    assert b"not-permitted" in _as(65534, namespace, "/usr/bin/python3", "-c", monitor).stdout


def test_no_secret_stands_in_arguments_or_logs(lab: RunningLab) -> None:
    key = lab.lab.administrator_key.read_text().strip()
    assert (lab.lab.administrator_key.stat().st_mode & 0o777, lab.lab.administrator_key.stat().st_uid) == (
        0o600,
        0,
    )
    for log in (lab.lab.run_dir / "log").glob("*.log"):
        assert key not in log.read_text(errors="replace")
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            assert key.encode() not in entry.read_bytes()


def test_a_flushed_table_is_noticed_and_repaired(lab: RunningLab) -> None:
    namespace = lab.lab.gateway_namespace
    subprocess.run(
        ["nsenter", f"--net=/run/netns/{namespace}", "nft", "delete", "table", "inet", "quotegate"],
        check=True,
    )
    table = ["nsenter", f"--net=/run/netns/{namespace}", "nft", "list", "table", "inet", "quotegate"]
    lab.until(lambda: subprocess.run(table, capture_output=True, check=False).returncode == 0, 5)
    lab.until(lambda: b"drift-repaired" in lab.cli("events").stdout)
    lab.until(lab.all_trusted)
