"""`quotegate-host vm` against a stand-in for a lab's monitor: what is asked, what is told, how it ends."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from vmhost.monitor.protocol import LENGTH, encode
from vmhost.monitor.vm_commands import odd, told
from vmhost.names import Lab

WEB = {
    "name": "web",
    "state": "running",
    "reason": "",
    "kept_off": False,
    "kept_off_because": "",
    "since": 1_796_000_000.0,
    "accelerator": "tcg",
    "uid": 64401,
    "pid": 4242,
    "tpm_pid": 4243,
    "tap": "web",
    "mac": "52:54:0a:4d:00:02",
    "ip": "10.77.0.2",
}
GOOD = {
    "name": "web",
    "measured_at": 1_796_000_000.0,
    "firmware": {
        "path": "/s/OVMF_CODE.fd",
        "digest": "f" * 64,
        "version": 1,
        "restored": False,
        "found": "f" * 64,
    },
    "files": [
        {"path": "/s/OVMF_CODE.fd", "sha256": "f" * 64, "now": "unchanged"},
        {"path": "/s/boot.img", "sha256": "b" * 64, "now": "unchanged"},
    ],
    "kernel_image": {"sha256": "e" * 64, "image": "guest", "as_built": True},
    "not_measured": ["/s/OVMF_VARS.fd"],
    "console": "/run/console.log",
}


class StandIn:
    """Answers each op as told, and keeps what it was asked."""

    def __init__(self, path: Path) -> None:
        self.answers: dict[str, dict[str, Any]] = {}
        self.asked: list[dict[str, Any]] = []
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(path))
        self.listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            with connection:
                (length,) = LENGTH.unpack(connection.recv(LENGTH.size, socket.MSG_WAITALL))
                request = json.loads(connection.recv(length, socket.MSG_WAITALL))
                self.asked.append(request)
                connection.sendall(encode({"ok": True, **self.answers.get(request["op"], {})}))


@pytest.fixture
def monitor(tmp_path: Path) -> Iterator[StandIn]:
    lab = Lab(f"tv{os.getpid()}")
    lab.run_dir.mkdir(parents=True)
    one = StandIn(lab.monitor_socket)
    console = tmp_path / "console.log"
    console.write_bytes(b"UEFI\r\n\xff up\n")
    one.answers["list_vms"] = {
        "vms": [{**WEB, "console": str(console)}],
        "accelerator": {"name": "tcg", "reason": "there is no /dev/kvm"},
    }
    one.answers["vm_evidence"] = GOOD
    yield one
    one.listener.close()
    lab.monitor_socket.unlink()
    lab.run_dir.rmdir()


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "vmhost.monitor.main", "vm", *words, "--lab", f"tv{os.getpid()}"]


def vm(*words: str) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(command(*words), capture_output=True, timeout=30, check=False)


def test_list_shows_each_machine_and_who_runs_it_and_why(monitor: StandIn) -> None:
    done = vm("list")
    assert done.returncode == 0
    lines = done.stdout.decode().splitlines()
    assert lines[0] == "accelerator: tcg (there is no /dev/kvm)"
    assert lines[2].split() == [
        "web", "running", "tcg", "64401", "4242", "web", "52:54:0a:4d:00:02", "10.77.0.2", "2026-11-30", "00:53:20",
    ]  # fmt: skip
    assert json.loads(vm("list", "--json").stdout)["vms"][0]["tpm_pid"] == 4243


def test_list_tells_whom_an_operator_switched_off(monitor: StandIn) -> None:
    monitor.answers["list_vms"]["vms"][0] |= {
        "state": "off", "kept_off": True, "kept_off_because": "by an operator", "pid": None,
    }  # fmt: skip
    row = vm("list").stdout.decode().splitlines()[2]
    assert "off (by an operator)" in row
    assert "  -  " in row


def test_list_shows_no_raw_text_of_a_guest(monitor: StandIn) -> None:
    monitor.answers["list_vms"]["vms"][0] |= {"state": "failed", "reason": "\x1b[2J\ud800"}
    done = vm("list")
    assert (done.returncode, b"failed (\\x1b[2J\\ud800)" in done.stdout) == (0, True)


@pytest.mark.parametrize(
    ("verb", "ops"),
    [
        ("start", ["start_machine"]),
        ("stop", ["stop_machine"]),
        ("restart", ["stop_machine", "start_machine"]),
    ],
)
def test_switches(monitor: StandIn, verb: str, ops: list[str]) -> None:
    assert vm(verb, "web").returncode == 0
    assert monitor.asked[1:] == [{"op": op, "name": "web"} for op in ops]


def test_a_refusal_is_exit_3_and_says_what_to_do(monitor: StandIn) -> None:
    monitor.answers["start_machine"] = {
        "ok": False,
        "code": "already-running",
        "message": "got running; restart it",
    }
    done = vm("start", "web")
    assert (done.returncode, done.stderr) == (
        3,
        b"quotegate-host: already-running: got running; restart it\n",
    )


def test_an_error_is_harmless_to_a_terminal(monitor: StandIn) -> None:
    monitor.answers["start_machine"] = {"ok": False, "code": "vm-died", "message": "one\ntwo\x1b[2J\ud800"}
    done = vm("start", "web")
    assert (done.returncode, done.stderr) == (1, b"quotegate-host: vm-died: one\ntwo\\x1b[2J\\ud800\n")


def test_a_failure_is_exit_1(monitor: StandIn) -> None:
    monitor.answers["start_machine"] = {"ok": False, "code": "vm-died", "message": "x"}
    assert vm("start", "web").returncode == 1


def test_the_console_comes_into_a_pipe_as_it_is(monitor: StandIn) -> None:
    assert vm("console", "web").stdout == b"UEFI\r\n\xff up\n"


def test_rejects_a_console_that_writes_to_the_operators_terminal(monitor: StandIn) -> None:
    Path(monitor.answers["list_vms"]["vms"][0]["console"]).write_bytes(b"up\r\n\x1b[2J\xff\n")
    ours, theirs = os.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        done = subprocess.run(command("console", "web"), stdout=theirs, timeout=30, check=False)
        os.close(theirs)
        assert (done.returncode, terminal.read(1000)) == (0, b"up\r\n\\x1b[2J\\xff\r\n")


def test_evidence_tells_what_was_measured(monitor: StandIn) -> None:
    done = vm("evidence", "web")
    assert done.returncode == 0
    text = done.stdout.decode()
    for expected in (
        "f" * 64 + "  the golden copy, version 1",
        "e" * 64 + "  as built: guest.efi",
        "OVMF_VARS.fd",
    ):
        assert expected in text
    assert json.loads(vm("evidence", "web", "--json").stdout)["kernel_image"]["as_built"] is True


ODD: dict[str, dict[str, Any]] = {
    "restored": {"firmware": {**GOOD["firmware"], "restored": True, "found": "0" * 64}},
    "boot.img is changed": {"files": [{"path": "/s/boot.img", "sha256": "b" * 64, "now": "changed"}]},
    "not that of the image guest": {
        "kernel_image": {"sha256": "e" * 64, "image": "guest", "as_built": False}
    },
    "no kernel image can be read": {"kernel_image": {"sha256": None, "image": "guest", "as_built": False}},
}  # type: ignore[dict-item]


@pytest.mark.parametrize("what", ODD)
def test_what_is_odd_is_named(what: str) -> None:
    (found,) = odd({**GOOD, **ODD[what]})
    assert what in found
    assert f"ODD: {found}" in told({**GOOD, **ODD[what]})


def test_odd_evidence_is_exit_4(monitor: StandIn) -> None:
    monitor.answers["vm_evidence"] = {**GOOD, **ODD["restored"]}
    assert vm("evidence", "web").returncode == 4


@pytest.mark.parametrize("verb", ["start", "stop", "restart", "console", "evidence"])
def test_rejects_a_name_nobody_has(monitor: StandIn, verb: str) -> None:
    done = vm(verb, "nobody")
    assert done.returncode == 1
    assert b"unknown-vm: there is no virtual machine 'nobody'; there are web" in done.stderr
    assert [one["op"] for one in monitor.asked] == ["list_vms"]


def test_rejects_a_lab_of_namespaces(monitor: StandIn) -> None:
    monitor.answers["list_vms"] = {"vms": [], "accelerator": None}
    done = vm("stop", "web")
    assert (done.returncode, b"no-vms" in done.stderr) == (1, True)


def test_rejects_a_lab_that_is_not_up() -> None:
    done = vm("list")
    assert (done.returncode, b"is the lab up?" in done.stderr) == (1, True)


def test_rejects_wrong_words() -> None:
    assert vm("switch").returncode == 2
