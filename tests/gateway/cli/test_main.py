"""The command as a program: whatever its files, its words and its output are, it ends with a line and a status."""

import json
import os
import subprocess
from pathlib import Path

import pytest

QUOTEGATE = Path(".venv/bin/quotegate").resolve()
DEEP = "[" * 100_000


def ended(*words: str, stdout: int = subprocess.PIPE) -> tuple[int, str]:
    done = subprocess.run([QUOTEGATE, *words], stdout=stdout, stderr=subprocess.PIPE, check=False)
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["policy", "check", "examples/policy.toml"]])
def test_rejects_a_full_standard_output_in_words(words: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        status, said = ended(*words, stdout=full.fileno())
    assert (status, said.count("\n")) == (1, 1)
    assert said.startswith("quotegate: unwritable: standard output: No space left on device")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["policy", "check", "examples/policy.toml"]])
def test_a_reader_that_is_gone_ends_it_in_silence(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert ended(*words, stdout=writer) == (141, "")
    finally:
        os.close(writer)


def test_a_full_standard_output_is_no_fault_of_the_file_that_is_inspected(tmp_path: Path) -> None:
    file = tmp_path / "note"
    file.write_text("harmless")
    with Path("/dev/full").open("w") as full:
        status, said = ended("inspect", "--file", str(file), stdout=full.fileno())
    assert status == 1
    assert "standard output" in said and "unreadable" not in said


@pytest.mark.parametrize(
    ("words", "code"), [(["audit", "prune"], "bad-export"), (["audit", "verify", "--head"], "bad-head")]
)
def test_rejects_a_file_that_is_nested_without_end(tmp_path: Path, words: list[str], code: str) -> None:
    file = tmp_path / "deep.json"
    file.write_text(DEEP)
    assert ended(*words, str(file))[1].startswith(f"quotegate: {code}: ")


@pytest.mark.parametrize("name", ["../x", "A/b", ""])
def test_rejects_what_is_no_labs_name(name: str) -> None:
    """Not: `is it running?`."""
    status, said = ended("status", "--json", "--lab", name)
    assert (status, json.loads(said)["error"]["code"]) == (1, "bad-name")
