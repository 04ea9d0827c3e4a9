"""Evidence of a running lab, saved, shown and verified as an outsider would."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.foreign import evidence as foreign
from tests.lab.conftest import RunningLab

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def saved(lab: RunningLab, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("evidence")
    directory.chmod(0o755)
    lab.cli("evidence", "save", "web", "-o", str(directory / "web.json"))
    anchors = lab.cli("evidence", "anchors", str(directory / "web.json")).stdout
    (directory / "anchors.json").write_bytes(anchors)
    return directory


def test_a_saved_bundle_verifies_without_the_gateway(lab: RunningLab, saved: Path) -> None:
    words = ("evidence", "verify", str(saved / "web.json"), "--anchors", str(saved / "anchors.json"))
    answer = json.loads(lab.cli(*words, "--json").stdout)
    assert answer["verified"]
    assert answer["anchored"]
    assert list(answer["checks"].values()) == [True] * 8


def test_a_foreign_verifier_agrees(saved: Path) -> None:
    """As a program of its own, as nobody, with nothing of Quotegate on its path."""
    done = subprocess.run(
        [sys.executable, "-", str(saved / "web.json"), str(saved / "anchors.json")],
        input=Path(foreign.__file__).read_bytes(), capture_output=True, cwd="/", env={}, timeout=30, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, b"verified\n"), done.stderr.decode()


def test_show_says_what_was_measured(lab: RunningLab, saved: Path) -> None:
    text = lab.cli("evidence", "show", str(saved / "web.json")).stdout.decode()
    assert f"{lab.lab.name}/web" in text
    assert "code of Quotegate" in text
    assert "nothing of this has been verified" in text


def test_an_altered_file_fails_by_name(lab: RunningLab, saved: Path, tmp_path: Path) -> None:
    bundle = json.loads((saved / "web.json").read_text())
    attest = bytearray.fromhex(bundle["layers"][0]["attest"])
    attest[-1] ^= 1
    bundle["layers"][0]["attest"] = attest.hex()
    (tmp_path / "altered.json").write_text(json.dumps(bundle))
    done = lab.cli("evidence", "verify", str(tmp_path / "altered.json"), check=False)
    assert done.returncode == 4
    assert "FAIL  quote-and-logs\nwrong-ak: " in done.stdout.decode()


def test_what_is_no_bundle_gets_one_clear_line(lab: RunningLab, tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("{}")
    done = lab.cli("evidence", "verify", str(tmp_path / "x.json"), check=False)
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"the field 'format' is missing" in done.stderr


def test_a_refused_machine_leaves_evidence_that_explains(lab: RunningLab, tmp_path: Path) -> None:
    """Another reference is demanded of web: its own evidence then shows which PCR differs, and in what."""
    assert lab.cli("evidence", "save", "web", "--refused", check=False).returncode == 1
    text = lab.spec.policy_text.replace('"ref:nothing-else-ran"', '"ref:deployment"')
    (tmp_path / "strict.toml").write_text(text)
    (tmp_path / "normal.toml").write_text(lab.spec.policy_text)
    lab.cli("policy", "apply", str(tmp_path / "strict.toml"))
    try:
        lab.cli("peer", "restart", "web")
        lab.until(
            lambda: lab.cli("evidence", "save", "web", "--refused", "-o", str(tmp_path / "refused.json"))
        )
    finally:
        lab.cli("policy", "apply", str(tmp_path / "normal.toml"))
    done = lab.cli("evidence", "verify", str(tmp_path / "refused.json"), check=False)
    assert done.returncode == 4
    assert "reference-mismatch: PCR 10: deployment " in done.stdout.decode()
    assert "got: no further event" in done.stdout.decode()
