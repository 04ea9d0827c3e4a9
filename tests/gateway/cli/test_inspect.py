"""`quotegate inspect` as a person types it."""

import json
import resource
from pathlib import Path

import pytest

from filters.inspection.stream import NOTES
from gateway.cli.inspect import inspect
from gateway.cli.parser import build_parser
from gateway.errors import GatewayError
from tests.filters.inspection.drive import EICAR
from tests.filters.inspection.test_offline import HALVES, connection, down, pcap, up
from tests.filters.inspection.test_protocols import client_hello


def run(*words: object) -> int:
    return inspect(build_parser().parse_args(["inspect", *map(str, words)]))


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(connection(*HALVES)))
    return path


def test_one_line_a_finding_and_a_summary(capture: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capture, "--json") == 0
    *findings, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {one["check"] for one in findings} == {"malware.eicar"}
    assert findings[0]["flow"]["server"] == {"ip": "10.0.0.3", "port": 80}
    assert findings[0]["direction"] == "to-client"
    assert (summary["event"], summary["flows"], summary["refused_flows"]) == ("summary", 1, 1)
    assert run(capture, "--check") == 4
    assert "malware.eicar" in capsys.readouterr().out


def test_tells_what_each_flow_spoke_and_no_secret_of_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask = b"GET http://me:s3cr3t@shop/cart?token=s3cr3t HTTP/1.1\r\nHost: shop\r\n\r\n"
    packets = [up(99, flags="S"), up(100, ask)]
    packets += [up(99, flags="S", port=40001), up(100, client_hello("db.example"), port=40001)]
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(packets))
    assert run(path, "--flows", "--json") == 0
    asked, hello = [
        one for one in map(json.loads, capsys.readouterr().out.splitlines()) if one["event"] == "flow"
    ]
    assert (asked["protocol"], asked["flow"]["client"]) == ("http", {"ip": "10.0.0.2", "port": 40000})
    assert asked["notes"][-1] == {
        "kind": "http-request",
        "method": "GET",
        "host": "shop",
        "target": "http://shop/cart",
    }
    assert (hello["protocol"], hello["notes"][-1]["sni"]) == ("tls", "db.example")
    assert run(path, "--flows") == 0
    said = capsys.readouterr().out
    assert "10.0.0.2:40000 → 10.0.0.3:80; http-request method=GET host=shop target=http://shop/cart" in said
    assert "ja4=t13d" in said
    assert "s3cr3t" not in said
    assert run(path) == 0
    assert "db.example" not in capsys.readouterr().out


def test_says_how_much_of_a_long_flow_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ask = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
    reply = b"HTTP/1.1 204 No\r\n\r\n"
    packets = [up(99, flags="S"), down(199, flags="SA")]
    for at in range(NOTES // 2 + 4):
        packets += [up(100 + at * len(ask), ask), down(200 + at * len(reply), reply)]
    path = tmp_path / "x.pcap"
    path.write_bytes(pcap(packets))
    assert run(path, "--flows", "--json") == 0
    told = json.loads(capsys.readouterr().out.splitlines()[0])
    assert (len(told["notes"]), told["earlier_notes"]) == (NOTES, 9)  # the protocol is one
    assert run(path, "--flows") == 0
    assert "; (9 earlier left out); http-request" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["CAPTURE", "--detectors", "patterns"], "material-missing"),
        (["CAPTURE", "--detectors", "secrets,marks"], "material-missing"),
        (["CAPTURE", "--clamd", "/nowhere/clamd.sock"], "material-missing"),
        (["CAPTURE", "--detectors", ""], "no-detector"),
        (["CAPTURE", "--rules", "NO_RULES"], "no-rules"),
        (["--file", "CAPTURE", "--flows"], "no-capture"),
        (["--file", "CAPTURE", "--policy", "/nowhere"], "no-capture"),
    ],
)
def test_looks_for_what_was_named_or_says_why_not(
    capture: Path, tmp_path: Path, words: list[str], code: str
) -> None:
    no_rules = tmp_path / "no.rules"
    no_rules.write_text("none of these is a rule\n")
    named = {"CAPTURE": str(capture), "NO_RULES": str(no_rules)}
    with pytest.raises(GatewayError) as caught:
        run(*(named.get(one, one) for one in words))
    assert caught.value.code == code


def test_a_file_is_inspected_as_an_object(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad, fine = tmp_path / "bad.txt", tmp_path / "fine.txt"
    bad.write_bytes(EICAR)
    fine.write_bytes(b"fine")
    assert run("--file", bad, "--check") == 4
    assert "eicar" in capsys.readouterr().out
    assert run("--file", fine, "--check") == 0
    assert "nothing found" in capsys.readouterr().out


def test_the_operators_own_patterns_and_rules_are_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "p.toml").write_text('[[pattern]]\nid = "project"\nexpression = "Project [A-Z]{6}"\n')
    (tmp_path / "good.yar").write_text('rule mine { strings: $a = "needle" condition: $a }')
    (tmp_path / "bad.yar").write_text("rule {")
    (tmp_path / "x").write_bytes(b"Project ZEPHYR is a needle")
    assert (
        run("--file", tmp_path / "x", "--patterns", tmp_path / "p.toml", "--yara", tmp_path, "--check") == 4
    )
    said = capsys.readouterr()
    assert "patterns.project" in said.out
    assert "yara.mine" in said.out
    assert "bad.yar" in said.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "expected a capture"),
        (("/nowhere",), "No such file"),
        (("/etc/hostname",), "expected a pcap"),
        (("/etc/hostname", "--detectors", "nonsense"), "nonsense"),
        (("--file", "/etc/hostname", "--patterns", "/nowhere"), "/nowhere"),
    ],
)
def test_rejects_bad_words_with_advice(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(GatewayError, match=says):
        run(*words)


POLICY = """
schema = 1
[profile.p]
pcrs = {{ sha256 = {{ 4 = "ref:code" }} }}
[peer.a]
match = {{ port = "a", mac = "52:54:00:aa:00:02", ip = "{client}" }}
profile = "p"
[peer.b]
match = {{ port = "b", mac = "52:54:00:aa:00:03", ip = "{server}" }}
profile = "p"
[[rule]]
id = "looked-at"
from = "a"
to = "b"
service = "tcp/{port}"
action = "allow"
inspect = {{ detectors = ["{detector}"] }}
"""


ENDS = {"client": "10.0.0.2", "server": "10.0.0.3"}


@pytest.mark.parametrize(
    ("detector", "port", "count", "left_out"),
    [("malware", 80, 1, {}), ("personal", 80, 0, {}), ("malware", 81, 0, {"flows that no rule inspects": 1})],
)
def test_a_policy_says_which_flows_are_inspected_and_how(
    tmp_path: Path,
    capture: Path,
    capsys: pytest.CaptureFixture[str],
    detector: str,
    port: int,
    count: int,
    left_out: dict[str, int],
) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.format(**ENDS, port=port, detector=detector))
    assert run(capture, "--policy", policy, "--json") == 0
    *events, summary = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (len(events), summary["left_out"]) == (count, left_out)


def test_a_policy_that_looks_for_what_is_not_given_is_refused(tmp_path: Path, capture: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text(POLICY.format(**ENDS, port=80, detector="marks"))
    with pytest.raises(GatewayError, match="rule looked-at looks for marks"):
        run(capture, "--policy", policy)


def test_a_reader_that_goes_away_is_no_unreadable_capture(
    capture: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def goes_away(_: str) -> None:
        raise BrokenPipeError

    monkeypatch.setattr("gateway.cli.inspect.say", goes_away)
    with pytest.raises(BrokenPipeError):
        run(capture)


def test_inspects_more_large_objects_at_once_than_a_shell_lets_files_be_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = b"POST / HTTP/1.1\r\nHost: h\r\nContent-Type: application/pdf\r\nContent-Length: 99999\r\n\r\n"
    body = head + b"%PDF-1.4\n" + bytes(66_000)
    pieces = [body[at : at + 30_000] for at in range(0, len(body), 30_000)]
    packets = [
        up(100 + number * 30_000, piece, port=port)
        for port in range(2000, 2080)
        for number, piece in enumerate(pieces)
    ]
    path = tmp_path / "many.pcap"
    path.write_bytes(pcap(packets))
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (70, before[1]))
    try:
        assert run(path, "--json") == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["flows"] == 80
