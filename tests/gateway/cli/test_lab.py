"""What `quotegate lab` does with the state of virtual machines: nothing of it is lost without a word."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from filters.errors import PolicyError
from gateway.cli import lab as commands
from gateway.cli.parser import build_parser
from gateway.errors import GatewayError
from vmhost.errors import HostError
from vmhost.lab.defaults import default_spec
from vmhost.names import Lab


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, Any]]:
    """What would be done to the lab."""
    noted: list[tuple[str, Any]] = []

    def tear_down(_: Lab, *, keep_state: bool = False) -> bool:
        noted.append(("down", keep_state))
        return True

    monkeypatch.setattr(commands, "demand_root", lambda: None)
    monkeypatch.setattr(commands, "bring_up", lambda spec: noted.append(("up", spec.valid_days)))
    monkeypatch.setattr(commands, "tear_down", tear_down)
    monkeypatch.setattr(
        commands,
        "bring_back",
        lambda lab, days: noted.append(("resume", lab.name, days)) or default_spec(lab),
    )
    monkeypatch.setattr(commands, "valid_until", lambda _: 86400.0)
    return noted


@pytest.fixture
def kept() -> Iterator[Lab]:
    """A lab that left the state of virtual machines."""
    lab = Lab(f"tcl{os.getpid()}")
    lab.kept_dir.mkdir(parents=True)
    yield lab
    lab.kept_dir.rmdir()
    lab.state_dir.rmdir()


def run(lab: Lab, *words: str) -> int:
    arguments = build_parser().parse_args(["lab", *words, "--lab", lab.name])
    return int(arguments.run(arguments))


@pytest.mark.parametrize("words", [(), ("--vm",)])
def test_rejects_a_lab_in_the_place_of_kept_state(
    kept: Lab, done: list[tuple[str, Any]], words: tuple[str, ...]
) -> None:
    with pytest.raises(GatewayError) as raised:
        run(kept, "up", *words)
    assert raised.value.code == "state-kept"
    for way in (f"quotegate lab resume --lab {kept.name}", f"quotegate lab up --discard --lab {kept.name}"):
        assert way in raised.value.message
    assert done == []


@pytest.mark.parametrize("state", [True, False])
def test_rejects_a_lab_in_the_place_of_one_that_runs(
    kept: Lab, done: list[tuple[str, Any]], monkeypatch: pytest.MonkeyPatch, state: bool
) -> None:
    monkeypatch.setattr(commands, "is_up", lambda _: True)
    monkeypatch.setattr(commands, "is_kept", lambda _: state)
    with pytest.raises(GatewayError) as raised:
        run(kept, "up")
    assert (raised.value.code, done) == ("already-up", [])
    assert (f"quotegate lab down --keep --lab {kept.name}, then resume" in raised.value.message) == state
    assert run(kept, "up", "--discard") == 0
    assert done == [("up", 30)]


def test_rejects_virtual_machines_without_images(done: list[tuple[str, Any]], tmp_path: Path) -> None:
    with pytest.raises(GatewayError, match=r"expected guest.json .* make image"):
        run(Lab("tcd"), "up", "--vm", "--images", str(tmp_path))
    assert done == []


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("ref:code", "ref:cod", "no reference set here has 'cod'.*did you mean code"),
        ('"3s"', '"300ms"', "at least 350 ms"),
    ],
)
def test_rejects_a_policy_that_no_lab_can_keep(
    done: list[tuple[str, Any]], tmp_path: Path, old: str, new: str, says: str
) -> None:
    text = Path("examples/policy.toml").read_text()
    assert old in text
    (tmp_path / "p.toml").write_text(text.replace(old, new))
    with pytest.raises(PolicyError, match=says):
        run(Lab("tcd"), "up", "--policy", str(tmp_path / "p.toml"))
    assert done == []


def test_it_is_given_up_at_an_operators_word(kept: Lab, done: list[tuple[str, Any]]) -> None:
    assert run(kept, "up", "--discard") == 0
    assert done == [("up", 30)]


@pytest.mark.parametrize(("words", "days"), [((), None), (("--days", "90"), 90)])
def test_it_is_gone_on_with(
    kept: Lab,
    done: list[tuple[str, Any]],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    days: int | None,
) -> None:
    assert run(kept, "resume", *words) == 0
    assert done == [("resume", kept.name, days)]
    said = capsys.readouterr().out
    assert f"lab {kept.name} is up: gateway 10.77.0.1, 3 peers" in said
    assert "what is signed for it holds until 1970-01-02" in said


@pytest.mark.parametrize("days", ["0", "-1", "3651"])
def test_rejects_documents_of_no_days_or_too_many(kept: Lab, done: list[tuple[str, Any]], days: str) -> None:
    with pytest.raises(HostError) as raised:
        run(kept, "resume", "--days", days)
    assert (raised.value.code, done) == ("bad-days", [])


def test_rejects_options_of_ours_behind_the_peer(done: list[tuple[str, Any]]) -> None:
    arguments = build_parser().parse_args(["lab", "exec", "web", "--lab", "other", "--", "true"])
    with pytest.raises(GatewayError, match="quotegate lab exec --lab other web -- COMMAND"):
        arguments.run(arguments)


@pytest.mark.parametrize(
    ("words", "keeps", "said"),
    [
        ((), False, "state was deleted (audit record,"),
        (("--keep",), True, "state is kept in /var/lib/quotegate/"),
    ],
)
def test_taking_down_says_what_becomes_of_it(
    kept: Lab,
    done: list[tuple[str, Any]],
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    keeps: bool,
    said: str,
) -> None:
    assert run(kept, "down", *words) == 0
    assert done == [("down", keeps)]
    assert said in capsys.readouterr().out


def test_of_a_lab_of_namespaces_there_is_nothing_to_keep(
    done: list[tuple[str, Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    lab = Lab(f"tcn{os.getpid()}")
    assert (run(lab, "up"), run(lab, "down")) == (0, 0)
    assert done == [("up", 30), ("down", False)]
    assert "state" not in capsys.readouterr().out


def test_rejects_keeping_what_can_not_be_started_again(kept: Lab, done: list[tuple[str, Any]]) -> None:
    kept.kept_dir.rmdir()
    try:
        with pytest.raises(GatewayError) as raised:
            run(kept, "down", "--keep")
    finally:
        kept.kept_dir.mkdir()
    assert (raised.value.code, done) == ("nothing-kept", [])
    assert f"quotegate lab down --lab {kept.name}" in raised.value.message


def test_where_there_is_no_lab_keeping_is_no_error(done: list[tuple[str, Any]]) -> None:
    assert run(Lab(f"tcn{os.getpid()}"), "down", "--keep") == 0
    assert done == [("down", False)]


def test_what_is_signed_holds_as_long_as_an_operator_says(done: list[tuple[str, Any]]) -> None:
    assert run(Lab("tcd"), "up", "--days", "400") == 0
    assert done == [("up", 400)]


@pytest.mark.parametrize("days", ["0", "-3", "3651"])
def test_rejects_days_out_of_range(done: list[tuple[str, Any]], days: str) -> None:
    with pytest.raises(HostError) as raised:
        run(Lab("tcd"), "up", "--days", days)
    assert (raised.value.code, done) == ("bad-days", [])
