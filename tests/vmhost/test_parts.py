"""Pure and small parts of the host side, and the shared TPM."""

import hashlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from authn.appraisal import Measured
from authn.event_log import parse_event_log, replay
from authn.pcr import PcrSelection
from authn.portmap import PortEntry
from authn.reference import ReferenceSet, check_reference
from authn.tpm import Tpm
from tests.tpms import running_swtpm
from vmhost.antispoof_rules import compile_antispoof
from vmhost.errors import HostError
from vmhost.measured_boot import measure, measurements, predict, profile_for
from vmhost.monitor.budget import Budget
from vmhost.names import Lab
from vmhost.process import Program, Rights, start, wait_for_socket

GATEWAY = PortEntry("gateway", "gateway0", "52:54:00:00:00:01", IPv4Address("10.0.0.1"), "u0")
PEERS = [
    PortEntry(f"p{n}", f"port{n}", f"52:54:00:00:00:1{n}", IPv4Address(f"10.0.0.1{n}"), f"u{n}")
    for n in (2, 1)
]
GOLDEN = Path(__file__).parent / "golden" / "antispoof.nft"


def test_the_antispoof_table_is_the_golden_one() -> None:
    assert compile_antispoof(GATEWAY, PEERS) == GOLDEN.read_text()


@pytest.mark.parametrize("name", ["", "Lab", "9lab", "a" * 17, "a/b", "a b", "../x", "-a", "a\n"])
def test_rejects_a_bad_lab_name(name: str) -> None:
    with pytest.raises(HostError, match="expected a-z"):
        Lab(name)


@pytest.mark.parametrize("name", ["lab-", "lab--2", "lab---", "a--"])
def test_rejects_a_lab_name_whose_namespaces_could_be_taken_for_another_labs(name: str) -> None:
    with pytest.raises(HostError, match="expected a-z"):
        Lab(name)


def test_labs_whose_names_begin_alike_do_not_meet() -> None:
    assert not Lab("lab-2").host_namespace.startswith(Lab("lab").prefix)
    assert len(Lab("lab").port("x" * 50)) <= 15


def test_the_budget_is_used_up_and_comes_back() -> None:
    budget = Budget(2, 10.0)
    assert [budget.take(now) for now in (0.0, 1.0, 2.0, 10.0, 10.5, 11.0)] == [
        True,
        True,
        False,
        True,
        False,
        True,
    ]


def test_a_program_keeps_only_its_rights() -> None:
    command = Program("x", ("true",), "ns", Rights(64101, 64101, ("net_admin",)), Path("/dev/null")).command()
    assert "--bounding-set=-all,+net_admin" in command
    assert "--no-new-privs" in command
    assert command[-2:] == ["--", "true"]


@pytest.mark.tpm
def test_prediction_equals_measurement(tmp_path: Path) -> None:
    (tmp_path / "authn").mkdir()
    (tmp_path / "authn/x.py").write_text("x = 1\n")
    argv, profile = ("agent", "run"), profile_for("lab-peer")
    references = ReferenceSet(1, 1e12, predict(tmp_path, "lab test", {"lab-peer": argv}))
    with running_swtpm(tmp_path / "tpm") as tcti, Tpm(tcti) as tpm:
        tpm.provision()
        log = parse_event_log(measure(tpm, measurements(tmp_path, "lab test", argv)))
        values = tpm.read_pcrs(profile.selection)
    assert replay(log, profile.selection) == values
    check_reference(profile, Measured(log, (), values), [references], now=0.0)


@pytest.mark.parametrize("change", ["content", "name", "more"])
def test_any_change_of_code_changes_the_measurement(tmp_path: Path, change: str) -> None:
    (tmp_path / "authn").mkdir()
    file = tmp_path / "authn/x.py"
    file.write_text("x = 1\n")
    before = measurements(tmp_path, "d", ("a",))[0]
    if change == "content":
        file.write_text("x = 2\n")
    elif change == "name":
        file.rename(tmp_path / "authn/y.py")
    else:
        (tmp_path / "authn/z.py").write_text("")
    assert measurements(tmp_path, "d", ("a",))[0] != before


def _many(tpm: Tpm, selection: PcrSelection) -> int:
    return len({tpm.quote(selection, bytes([number])).attest for number in range(30)})


@pytest.mark.tpm
def test_a_shared_tpm_serves_several_clients_at_once(tmp_path: Path) -> None:
    with running_swtpm(tmp_path / "tpm"):
        listen = tmp_path / "shared.sock"
        argv = [
            sys.executable,
            "-m",
            "vmhost.tpm_share",
            "--upstream",
            str(tmp_path / "tpm/tpm.sock"),
            "--listen",
            str(listen),
        ]
        share = subprocess.Popen(argv)
        try:
            while not Path(f"{listen}.ctrl").exists():
                assert share.poll() is None
            tcti = f"swtpm:path={listen}"
            with Tpm(tcti) as one, Tpm(tcti) as two, ThreadPoolExecutor(3) as pool:
                one.provision()
                selection = PcrSelection.of([10])
                quotes = [pool.submit(_many, tpm, selection) for tpm in (one, two)]
                digest = hashlib.sha256(b"independent").hexdigest()
                tool = pool.submit(
                    subprocess.run, ["tpm2_pcrextend", "-T", tcti, f"10:sha256={digest}"], check=True
                )
                assert [quote.result() for quote in quotes] == [30, 30]
                tool.result()
                assert one.read_pcrs(selection) == two.read_pcrs(selection) != {10: bytes(32)}
        finally:
            share.terminate()
            share.wait(5)


@pytest.mark.netns
def test_a_stopped_program_is_ended_too(tmp_path: Path) -> None:
    subprocess.run(["ip", "netns", "add", "qg-tparts"], check=True)
    try:
        running = start(
            Program("sleep", ("sleep", "60"), "qg-tparts", Rights(64200, 64200), tmp_path / "log")
        )
        assert not wait_for_socket(tmp_path / "never", running, within_s=0.2)
        running.process.send_signal(19)
        running.stop(grace_s=0.2)
        assert not running.alive
    finally:
        subprocess.run(["ip", "netns", "delete", "qg-tparts"], check=True)
