"""Every parser of untrusted bytes is a fuzz target, takes its own examples, and withstands some seconds of fuzzing."""

import ast
import random
from pathlib import Path

import pytest

from tests.fuzz.campaign import ROOT, fuzz
from tests.fuzz.targets import TARGETS

SECONDS = 25
# functions with a parameter named `untrusted…` that parse nothing themselves
NO_PARSERS = {
    "exchange": "32 bytes for X25519, covered by `handshake`",
    "CompiledPolicy.from_json": "covered by `netd-arguments`",
    "Service.answer": "hands its arguments to Arguments",
    "AuthorityKeeper.grant": "hands the grant to AuthorityGate.check",
    "AuthorityKeeper._check": "hands the grant to AuthorityGate.check",
    "HandshakeDriver._facts": "looks names up",
    "HandshakeDriver._other_key": "looks a name up",
    "MonitorServer._answer": "hands the request to monitor.parse",
    "Conversation._take_references": "hands the set to ReferenceShelf.take",
}


@pytest.mark.parametrize("name", TARGETS)
def test_takes_its_own_examples(name: str) -> None:
    """A seed that is refused would leave the parser's inside unreached."""
    target = TARGETS[name]
    seeds = target.seeds()
    assert seeds
    if name not in (
        "handshake",
        "ek-certificate",
        "enrollment",
        "documents",
        "signature",
        "beacon",
        "netlink",
    ):
        for seed in seeds:
            target.check(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_withstands_altered_examples(name: str) -> None:
    target, draw = TARGETS[name], random.Random(1)
    for seed in target.seeds():
        for _ in range(60):
            data = bytearray(seed)
            for _ in range(draw.randint(1, 4)):
                at = draw.randrange(len(data) + 1)
                data[at : at + draw.choice((0, 1, 1, 1, 8))] = draw.choice(
                    (b"", b"\0", b"\xff", b"\xff\xff\xff\xff", draw.randbytes(2))
                )
            target.try_one(bytes(data))


def test_all_targets_withstand_guided_fuzzing(tmp_path: Path) -> None:
    outcome = fuzz("together", tmp_path / "corpus", SECONDS, tmp_path)
    assert not outcome.finding, outcome.finding
    assert outcome.executions > 2000
    assert outcome.edges > 500


def test_the_fuzzer_finds_a_planted_mistake(tmp_path: Path) -> None:
    (tmp_path / "corpus").mkdir()
    outcome = fuzz("planted", tmp_path / "corpus", 60, tmp_path, module="tests.fuzz.planted")
    assert "IndexError" in outcome.finding
    assert list(tmp_path.glob("planted-crash-*"))


def _parsers() -> set[str]:
    """Functions of the product with a parameter that is named as untrusted."""
    found = set()
    for package in ("authn", "filters", "gateway", "hostlink", "vmhost"):
        for path in (ROOT / package).rglob("*.py"):
            tree = ast.parse(path.read_text())
            owners = {
                child: node.name
                for node in ast.walk(tree)
                if isinstance(node, ast.ClassDef)
                for child in node.body
            }
            for node in ast.walk(tree):
                if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    continue
                if any(one.arg.startswith("untrusted") for one in node.args.args):
                    owner = owners.get(node)
                    name = (
                        owner
                        if node.name == "__init__" and owner
                        else f"{owner}.{node.name}"
                        if owner
                        else node.name
                    )
                    if path.name == "protocol.py" and path.parent.name == "monitor":
                        name = f"monitor.{name}"
                    found.add(name)
    return found


def test_no_parser_of_untrusted_bytes_is_forgotten() -> None:
    covered = {part for target in TARGETS.values() for part in target.parts}
    assert _parsers() - covered == set(NO_PARSERS) & _parsers()
    assert len(_parsers()) > 20
