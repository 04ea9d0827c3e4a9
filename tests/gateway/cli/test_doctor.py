"""What the doctor says of each fault; the probes against this machine are in tests/lab/test_doctor.py."""

import datetime as dt
import json
import os
import socket
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from authn.ek_certificate import CertificateAuthority
from gateway.cli.doctor import certificates, clock, disk, kernel, tpm
from gateway.cli.doctor.certificates import Validity
from gateway.cli.doctor.finding import Finding, Verdict

NOW = 1_800_000_000.0
DAY = 86_400.0
KERNEL = kernel.KernelFacts((), (), "", True, True, ())
CLOCK = clock.ClockFacts(NOW, NOW - DAY, True, NOW - 1)
DISK = disk.DiskFacts("/state", 50 << 30, 1_000_000, "", (("/state/a.key", 0o600),))


def verdicts(findings: list[Finding]) -> dict[str, Verdict]:
    assert all(one.mend for one in findings if one.verdict in (Verdict.BAD, Verdict.WARNING))
    return {one.check: one.verdict for one in findings}


def test_a_healthy_machine_is_healthy() -> None:
    findings = kernel.judge_kernel(KERNEL) + clock.judge_clock(CLOCK) + disk.judge_disk(DISK)
    assert set(verdicts(findings).values()) == {Verdict.OK}


@pytest.mark.parametrize(
    ("facts", "check", "verdict", "says"),
    [
        (replace(KERNEL, missing_tools=("nft",)), "tools", Verdict.BAD, "apt-get install nftables"),
        (replace(KERNEL, missing_bindings=("nftables",)), "bindings", Verdict.BAD, "python3-nftables"),
        (replace(KERNEL, ruleset_error="Operation not supported"), "packet filter", Verdict.BAD, "nf_tables"),
        (replace(KERNEL, ruleset_error=None), "packet filter", Verdict.NOT_CHECKED, "as root"),
        (replace(KERNEL, native_queue=False), "nft queue", Verdict.OK, ""),
        (replace(KERNEL, handover=False), "handover", Verdict.OK, ""),
        (replace(KERNEL, handover=None), "handover", Verdict.NOT_CHECKED, "as root"),
        (
            replace(KERNEL, unconfined=("Landlock",)),
            "confinement",
            Verdict.WARNING,
            "CONFIG_SECURITY_LANDLOCK",
        ),
        (replace(KERNEL, missing_sysctls=("net/x",)), "sysctls", Verdict.WARNING, "modprobe"),
    ],
)
def test_names_what_the_kernel_lacks(
    facts: kernel.KernelFacts, check: str, verdict: Verdict, says: str
) -> None:
    found = next(one for one in kernel.judge_kernel(facts) if one.check == check)
    assert (found.verdict, says in found.mend) == (verdict, True)


@pytest.mark.parametrize(
    ("facts", "check", "verdict"),
    [
        (replace(CLOCK, now=NOW - 40 * DAY, last_record=None), "clock", Verdict.BAD),
        (replace(CLOCK, synchronised=False), "clock synchronisation", Verdict.WARNING),
        (replace(CLOCK, synchronised=None), "clock synchronisation", Verdict.NOT_CHECKED),
        (replace(CLOCK, last_record=NOW + 60), "clock against the record", Verdict.BAD),
        (replace(CLOCK, last_record=None), "clock against the record", Verdict.NOT_CHECKED),
    ],
)
def test_names_what_is_wrong_with_the_clock(facts: clock.ClockFacts, check: str, verdict: Verdict) -> None:
    assert verdicts(clock.judge_clock(facts))[check] is verdict


@pytest.mark.parametrize(
    ("facts", "check", "verdict"),
    [
        (replace(DISK, free_bytes=1 << 20), "disk space", Verdict.BAD),
        (replace(DISK, free_bytes=500 << 20), "disk space", Verdict.WARNING),
        (replace(DISK, free_inodes=5), "disk space", Verdict.BAD),
        (replace(DISK, free_inodes=0), "disk space", Verdict.OK),
        (replace(DISK, write_error="Read-only file system"), "disk writes", Verdict.BAD),
        (replace(DISK, secrets=(("/state/a.key", 0o640),)), "secret files", Verdict.BAD),
        (replace(DISK, secrets=()), "secret files", Verdict.NOT_CHECKED),
    ],
)
def test_names_what_is_wrong_with_the_disk(facts: disk.DiskFacts, check: str, verdict: Verdict) -> None:
    assert verdicts(disk.judge_disk(facts))[check] is verdict


@pytest.mark.parametrize(
    ("one", "verdict"),
    [
        (Validity("c", NOW - DAY, NOW + 90 * DAY), Verdict.OK),
        (Validity("c", NOW - DAY, NOW + 29 * DAY), Verdict.OK),
        (Validity("c", NOW - DAY, NOW + 13 * DAY), Verdict.WARNING),
        (Validity("c", NOW - DAY, NOW + 5 * DAY), Verdict.WARNING),
        (Validity("c", NOW - 9 * DAY, NOW - DAY), Verdict.BAD),
        (Validity("c", NOW + DAY, NOW + 90 * DAY), Verdict.BAD),
        (Validity("c", 0.0, 1e300), Verdict.OK),
        (Validity("c", error="no such file"), Verdict.BAD),
    ],
)
def test_names_expired_and_expiring_certificates(one: Validity, verdict: Verdict) -> None:
    assert verdicts([certificates.judge_validity(one, NOW)]) == {"c": verdict}


def test_reads_certificates_and_documents(tmp_path: Path) -> None:
    begun = dt.datetime(2026, 11, 1, tzinfo=dt.UTC)
    authority = CertificateAuthority.create("test CA", begun, 30)
    (tmp_path / "ek_ca.pem").write_bytes(authority.root_pem())
    (tmp_path / "portmap.json").write_text(json.dumps({"document": {"not_after": NOW}}))
    (tmp_path / "references.json").write_text("{")
    (tmp_path / "web").mkdir()
    (tmp_path / "web" / "ek_certificate.der").write_bytes(b"no certificate")
    firmware = tmp_path / "firmware.signed"
    portmap, references, root, web = certificates.read_validities(tmp_path, tmp_path, firmware)
    firmware.write_text(json.dumps({"document": {"not_after": NOW + DAY}}))
    signed = certificates.read_validities(tmp_path, tmp_path, firmware)[2]
    assert signed == Validity("firmware.signed", 0.0, NOW + DAY)
    assert portmap == Validity("portmap.json", 0.0, NOW)
    assert root.not_after == (begun + dt.timedelta(days=30)).timestamp()
    assert references.error
    assert web.name == "EK certificate of web"
    assert web.error


def test_names_what_is_wrong_with_tpms_and_gateway() -> None:
    assert tpm.judge_trial(None).verdict is Verdict.NOT_CHECKED
    assert tpm.judge_trial("no answer").verdict is Verdict.BAD
    away = tpm.judge_gateway(None, "quotegate lab resume --lab x")
    assert (away.verdict, away.mend) == (
        Verdict.NOT_CHECKED,
        "quotegate lab resume --lab x, or look at its log",
    )
    assert tpm.judge_gateway("tpmd is gone", "").verdict is Verdict.BAD
    quarantined = tpm.judge_peer({"name": "web", "state": "quarantined", "reason": "pcr-mismatch"})
    assert (quarantined.verdict, quarantined.mend) == (Verdict.BAD, "quotegate peer release web")
    assert "pcr-mismatch" in quarantined.found
    assert tpm.judge_peer({"name": "web", "state": "unknown"}).verdict is Verdict.WARNING
    assert certificates.judge_authority("expired").verdict is Verdict.WARNING
    assert certificates.judge_authority(None).verdict is Verdict.NOT_CHECKED


def test_a_disk_is_examined_without_leaving_anything(tmp_path: Path) -> None:
    (tmp_path / "a.key").write_text("x")
    (tmp_path / "a.key").chmod(0o644)
    assert disk.probe_disk(tmp_path / "not" / "there").secrets == ()
    facts = disk.probe_disk(tmp_path)
    assert facts.write_error == ""
    assert [(Path(path).name, mode) for path, mode in facts.secrets] == [("a.key", 0o644)]
    assert [one.name for one in tmp_path.iterdir()] == ["a.key"]


@pytest.mark.parametrize(
    ("facts", "verdict", "mend"),
    [
        (replace(DISK, write_error="denied", is_forbidden=True), Verdict.NOT_CHECKED, "as root"),
        (replace(DISK, write_error="read-only"), Verdict.BAD, "mount it writable"),
    ],
)
def test_a_disk_that_nobody_may_look_at_is_not_called_bad(
    facts: disk.DiskFacts, verdict: Verdict, mend: str
) -> None:
    found = next(one for one in disk.judge_disk(facts) if one.check == "disk writes")
    assert (found.verdict, mend in found.mend) == (verdict, True)


def test_rejects_to_call_a_tpm_bad_that_only_begins_to_listen(tmp_path: Path) -> None:
    """Its socket's file is there with bind(2); who connects before listen(2) is refused."""
    path = tmp_path / "tpm.sock"
    process: Any = SimpleNamespace(pid=os.getpid(), poll=lambda: None)
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as caller:
        server.bind(str(path))
        late = threading.Timer(0.2, server.listen)
        late.start()
        tpm._wait_for(path, process)
        caller.connect(str(path))
        late.join()


def test_a_journal_that_goes_while_it_is_looked_at_ends_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.key").touch(0o600)
    found = list(disk._modes([tmp_path / "a.db-wal", tmp_path / "a.key"]))
    assert found == [(str(tmp_path / "a.key"), 0o600)]
