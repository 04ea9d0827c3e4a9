"""`quotegate evidence`: what a file claims is called a claim, and what it names does not act on the terminal."""

import json
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authn.bundle import BundleError
from authn.ima import parse_ima_list
from gateway.cli import evidence
from tests.authn.ima_lists import entry
from tests.authn.recordings import GOOD, load

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write the recorded evidence of a good boot, altered."""

    def write(name: str = "web.json", **changes: Any) -> Path:
        path = tmp_path / name
        path.write_text(json.dumps({**load(GOOD).to_json(), **changes}))
        return path

    return write


def verify(file: Path, anchors: Path | None = None, *, as_json: bool = False) -> int:
    return evidence.verify(Namespace(file=file, anchors=anchors, json=as_json))


def test_rejects_evidence_under_another_name(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    platform = load(GOOD).peer_id.partition("/")[0]
    assert verify(write(peer=f"{platform}/db")) == 4
    assert "FAIL  peer-name\nwrong-peer-name: " in capsys.readouterr().out


def test_the_machine_is_named_by_its_certificate_and_claims_are_called_so(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(write(taken_at=load(GOOD).taken_at + 3600)) == 0
    out = capsys.readouterr().out
    assert "machine: web, uuid " in out
    assert f"claimed by the file alone: that profile {load(GOOD).profile.id} was demanded" in out
    assert "claimed by the file alone: gateway " in out


def test_the_verifiers_own_profile_is_what_counts(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evidence.anchors(Namespace(file=write()))
    own, bundle = tmp_path / "anchors.json", load(GOOD)
    own.write_text(capsys.readouterr().out)
    profile = bundle.profile.to_json()
    less = {"4": profile["references"]["4"]}
    weaker = write(profile={**profile, "id": "weaker", "references": less})
    assert verify(weaker, own, as_json=True) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["profile"] == {"id": bundle.profile.id, "anchored": True}
    assert verify(weaker, own) == 0
    assert "was demanded" not in capsys.readouterr().out


def test_rejects_evidence_of_less_than_the_verifier_demands(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    own, bundle = tmp_path / "anchors.json", load(GOOD)
    profile = bundle.profile.to_json()
    more = {**profile, "references": {**profile["references"], "14": "none"}}
    own.write_text(json.dumps({**bundle.anchors.to_json(), "profile": more}))
    assert verify(write(), own) == 4
    assert "FAIL  selection\nwrong-selection: " in capsys.readouterr().out


def test_rejects_a_profile_among_the_anchors_of_the_file_itself(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = load(GOOD)
    anchors = {**bundle.anchors.to_json(), "profile": bundle.profile.to_json()}
    assert verify(write(anchors=anchors), as_json=True) == 0
    assert not json.loads(capsys.readouterr().out)["profile"]["anchored"]


@pytest.mark.parametrize("run", [evidence.show, evidence.verify, evidence.anchors])
def test_rejects_numbers_that_are_none(write: Write, run: Callable[[Namespace], int]) -> None:
    with pytest.raises(BundleError) as raised:
        run(Namespace(file=write(taken_at=10**400), anchors=None, json=False))
    assert raised.value.code == "bad-bundle"


def test_rejects_a_measured_name_that_acts_on_the_terminal(
    write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    evil = entry("/bin/\x1b[2J\n  file    0000000000000000…  /bin/sh", b"evil").encode()
    assert len(parse_ima_list(evil)) == 1
    (layer,) = load(GOOD).to_json()["layers"]
    evidence.show(
        Namespace(file=write(layers=[{**layer, "ima_list": layer["ima_list"] + evil.hex()}]), json=False)
    )
    (line,) = [one for one in capsys.readouterr().out.splitlines() if "/bin/\\u001b[2J" in one]
    assert line.endswith("\\u000a  file    0000000000000000…  /bin/sh")
