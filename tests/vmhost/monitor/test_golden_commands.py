"""`quotegate-host golden sign`: what it signs is what a start takes for good, and nothing else."""

import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from authn.signing import key_id
from vmhost.errors import HostError
from vmhost.lab.provisioning import load_administrator_key, make_administrator_key
from vmhost.lab.teardown import remove_tree
from vmhost.lab.vms import golden_dir
from vmhost.monitor.main import build_parser
from vmhost.names import Lab
from vmhost.vm.golden import Outcome, check_firmware

FIRMWARE = b"firmware of the distribution"
DIGEST = hashlib.sha256(FIRMWARE).hexdigest()


@pytest.fixture
def lab() -> Iterator[Lab]:
    one = Lab(f"tg{os.getpid()}")
    one.state_dir.mkdir(parents=True)
    make_administrator_key(one)
    yield one
    remove_tree(one.state_dir)


@pytest.fixture
def firmware(tmp_path: Path) -> Path:
    path = tmp_path / "OVMF_CODE.fd"
    path.write_bytes(FIRMWARE)
    return path


def sign(lab: Lab, firmware: Path, *words: str) -> int:
    arguments = build_parser().parse_args(["golden", "sign", str(firmware), "--lab", lab.name, *words])
    return int(arguments.run(arguments))


def started(lab: Lab, firmware: Path, at: float) -> Outcome:
    """What a start makes of the firmware at a time of day."""
    public = load_administrator_key(lab).public_key().public_bytes_raw()
    return check_firmware(firmware, golden_dir(lab), {key_id(public): public}, at)


def test_what_was_signed_is_good_for_so_many_days(
    lab: Lab, firmware: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert sign(lab, firmware, "--days", "90", "--version", "2") == 0
    assert DIGEST in capsys.readouterr().out
    now, day = time.time(), 86400
    assert started(lab, firmware, now + 89 * day) == Outcome(DIGEST, 2, restored=False, found=DIGEST)
    with pytest.raises(HostError) as raised:
        started(lab, firmware, now + 91 * day)
    assert raised.value.code == "golden-refused"
    assert "quotegate-host golden sign FILE" in raised.value.message


def test_another_key_can_be_named_and_a_start_refuses_it(lab: Lab, firmware: Path, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("11" * 32 + "\n")
    assert sign(lab, firmware, "--key", str(tmp_path / "key")) == 0
    with pytest.raises(HostError) as raised:
        started(lab, firmware, time.time())
    assert raised.value.code == "golden-refused"


@pytest.mark.parametrize("days", ["0", "-1", "3651"])
def test_rejects_days_out_of_range(lab: Lab, firmware: Path, days: str) -> None:
    with pytest.raises(HostError) as raised:
        sign(lab, firmware, "--days", days)
    assert (raised.value.code, golden_dir(lab).exists()) == ("bad-days", False)


@pytest.mark.parametrize("text", ["", "xyz", "11" * 31])
def test_rejects_what_is_no_key(lab: Lab, firmware: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "key").write_text(text)
    with pytest.raises(HostError) as raised:
        sign(lab, firmware, "--key", str(tmp_path / "key"))
    assert (raised.value.code, golden_dir(lab).exists()) == ("bad-key", False)


def test_rejects_firmware_that_is_not_there(lab: Lab, tmp_path: Path) -> None:
    with pytest.raises(HostError) as raised:
        sign(lab, tmp_path / "none")
    assert raised.value.code == "firmware-missing"
