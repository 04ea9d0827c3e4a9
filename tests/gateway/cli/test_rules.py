"""`quotegate rules check`, and rules in `quotegate inspect`, as a person types it."""

import json
from pathlib import Path

import pytest

from gateway.cli.inspect import inspect
from gateway.cli.parser import build_parser
from gateway.cli.rules import check
from gateway.errors import GatewayError
from tests.filters.inspection.test_offline import connection, pcap

GOOD = 'drop http $HOME_NET any -> any any (msg:"a request"; http.method; content:"GET"; sid:7;)\n'
MIXED = (
    GOOD
    + 'alert tcp any any -> any any (lua:x; sid:8;)\nalert tcp any any -> any any (content:"|4|"; sid:9;)\n'
)


def run(*words: object) -> int:
    return check(build_parser().parse_args(["rules", "check", *map(str, words)]))


def inspected(*words: object) -> int:
    return inspect(build_parser().parse_args(["inspect", *map(str, words)]))


def test_a_file_that_is_all_in_force_is_fine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "good.rules").write_text(GOOD)
    assert run(tmp_path / "good.rules") == 0
    said = capsys.readouterr().out
    assert "1 rules loaded, 0 unsupported, 0 with errors" in said
    assert "taken as any: HOME_NET" in said
    assert run(tmp_path / "good.rules", "--var", "HOME_NET=10.0.0.0/8") == 0
    assert "taken as any" not in capsys.readouterr().out
    assert run("examples/suricata.rules") == 0


def test_every_rule_that_is_not_in_force_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mixed.rules"
    path.write_text(MIXED)
    assert run(path) == 4
    said = capsys.readouterr().out
    assert f"{path}:2: sid 8: unsupported: lua" in said
    assert f"{path}:3:31: error: content: expected pairs" in said
    assert run(path, "--json") == 4
    data = json.loads(capsys.readouterr().out)
    assert (data["loaded"], data["by_keyword"]) == (1, {"lua": 1})
    assert [(one["line"], one["sid"], one["keyword"]) for one in data["unsupported"]] == [(2, 8, "lua")]
    assert [(one["line"], one["column"]) for one in data["errors"]] == [(3, 31)]


def test_rules_that_are_done_in_part_are_counted_apart_and_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "part.rules"
    path.write_text(GOOD + 'alert ip any any -> any any (content:"x"; depth:4; sid:8;)\n')
    assert run(path) == 0
    said = capsys.readouterr().out
    assert f"{path}:2: sid 8: in part: ip: looked for in TCP and in DNS over UDP only" in said
    assert f"{path}:2: sid 8: in part: depth: counted from the stream's beginning" in said
    assert "2 rules loaded (1 of them in part), 0 unsupported, 0 with errors" in said
    assert run(path, "--json") == 0
    data = json.loads(capsys.readouterr().out)
    assert [(one["sid"], one["keyword"]) for one in data["in_part"]] == [(8, "ip"), (8, "depth")]


def test_bytes_that_are_no_text_are_named_not_raised(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "odd.rules"
    path.write_bytes(b"alert \xff\x1b[31m any any -> any any (sid:1;)\n\xff\xfe\0\n" + GOOD.encode())
    assert run(path) == 4
    said = capsys.readouterr().out
    assert "1 rules loaded" in said
    assert "\x1b" not in said
    assert run(path, "--json") == 4
    assert json.loads(capsys.readouterr().out)["loaded"] == 1


def test_inspect_uses_the_rules_and_says_when_some_are_not_in_force(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.pcap").write_bytes(pcap(connection()))
    (tmp_path / "mixed.rules").write_text(MIXED)
    words = (tmp_path / "x.pcap", "--rules", tmp_path / "mixed.rules")
    assert inspected(*words, "--check", "--json") == 4
    said = capsys.readouterr()
    found = json.loads(said.out.splitlines()[0])
    assert (found["check"], found["detail"], found["cuts"]) == ("suricata.1:7", "a request", True)
    assert "2 rules are not in force (1 are): quotegate rules check" in said.err
    assert inspected(*words, "--check", "--var", "HOME_NET=192.0.2.0/24") == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("/nowhere",), "/nowhere: No such file"),
        (("/",), "/: "),
        (("/etc/hostname", "--var", "HOME_NET"), "NAME=VALUE"),
    ],
)
def test_rejects_bad_words_with_advice(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(GatewayError, match=says):
        run(*words)


def test_inspect_rejects_a_directory_as_rules(tmp_path: Path) -> None:
    (tmp_path / "x.pcap").write_bytes(pcap(connection()))
    with pytest.raises(GatewayError, match="directory"):
        inspected(tmp_path / "x.pcap", "--rules", tmp_path)
