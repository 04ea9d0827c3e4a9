"""The words of the commands: help, examples, manual pages, completion in a real shell."""

import argparse
import ast
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.agent.main import build_parser as build_agent
from gateway.cli.examples import EXAMPLES
from gateway.cli.parser import build_parser
from gateway.daemon.main import build_parser as build_daemon
from vmhost.monitor.main import build_parser as build_host

QUOTEGATE = Path(".venv/bin/quotegate").resolve()


def commands(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Every command that does something."""
    groups = [one for one in parser._actions if isinstance(one, argparse._SubParsersAction)]
    if not groups:
        yield parser
    for group in groups:
        for sub in group.choices.values():
            yield from commands(sub)


@pytest.mark.parametrize("command", list(commands(build_parser())), ids=lambda one: one.prog)
def test_every_command_has_a_description_and_examples(command: argparse.ArgumentParser) -> None:
    text = command.format_help()
    assert command.description
    assert f"examples:\n  {command.prog}" in text
    for action in command._actions:
        named = action.option_strings or action.metavar or len(action.dest) > 3
        assert action.help or named, action


def test_no_example_is_for_nothing() -> None:
    assert {one.prog.removeprefix("quotegate ") for one in commands(build_parser())} == set(EXAMPLES)


@pytest.mark.parametrize("example", [one for some in EXAMPLES.values() for one in some])
def test_every_example_is_understood(example: str) -> None:
    build_parser().parse_args(shlex.split(example))


@pytest.mark.parametrize("build", [build_agent, build_daemon, build_host])
def test_the_other_programs_show_an_example(build: "argparse.ArgumentParser") -> None:
    assert "example" in build().format_help()  # type: ignore[operator]


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (["quotegate", "pol"], {"policy"}),
        (["quotegate", "policy", "ro"], {"rollback"}),
        (["quotegate", "policy", "apply", "--con"], {"--confirm"}),
        (["quotegate", "completion", ""], {"bash", "zsh", "tcsh"}),
        (["quotegate", "policy", "apply", "exam"], {"examples"}),
    ],
)
def test_bash_completes(typed: list[str], expected: set[str]) -> None:
    script = subprocess.run(
        [QUOTEGATE, "completion", "bash"], capture_output=True, text=True, check=True
    ).stdout
    words = " ".join(map(shlex.quote, typed))
    asked = (
        f"{script}\nCOMP_WORDS=({words}); COMP_CWORD={len(typed) - 1}; COMP_LINE={shlex.quote(' '.join(typed))}; "
        "COMP_POINT=${#COMP_LINE}; $(complete -p quotegate | sed 's/.*-F \\([^ ]*\\).*/\\1/'); printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(["bash", "--norc", "-c", asked], capture_output=True, text=True, check=False)
    assert {one.strip().rstrip("/") for one in done.stdout.split()} >= expected, done.stderr


@pytest.mark.parametrize("shell", ["zsh", "tcsh"])
def test_other_shells_get_a_script(shell: str) -> None:
    done = subprocess.run([QUOTEGATE, "completion", shell], capture_output=True, text=True, check=True)
    assert "quotegate" in done.stdout


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("man")
    subprocess.run(["scripts/man", str(folder)], check=True, env=dict(os.environ))
    return folder


@pytest.mark.parametrize("name", ["quotegate", "quotegated", "quotegate-agent", "quotegate-host"])
def test_manual_pages_have_their_sections(pages: Path, name: str) -> None:
    text = (pages / f"{name}.1").read_text()
    for section in ("NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS"):
        assert f".SH {section}" in text
    if name == "quotegate":
        assert "policy apply" in text
        assert "exit status: 0 done" in text.replace("\\", "").lower()


@pytest.mark.skipif(
    not shutil.which("groff"), reason="groff is not installed: manual pages can't be formatted here"
)
def test_manual_pages_are_formatted_without_warnings(pages: Path) -> None:
    for page in pages.iterdir():
        done = subprocess.run(
            ["groff", "-Kutf8", "-man", "-ww", "-Tutf8", str(page)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stderr == ""
        assert len(done.stdout) > 500


def test_the_version_is_said_where_answers_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        build_parser().parse_args(["--version"])
    assert (ended.value.code or 0) == 0
    assert capsys.readouterr().out.startswith("quotegate 0.")


def reads(target: str, option: str) -> bool:
    """Tell whether a command's function, or one that it calls in its module, looks at an option."""
    module, _, function = target.rpartition(".")
    source = ast.parse(Path(f"gateway/cli/{module.replace('.', '/')}.py").read_text())
    functions = {one.name: one for one in source.body if isinstance(one, ast.FunctionDef)}
    to_see, seen = [function], set[str]()
    while to_see:
        seen.add(name := to_see.pop())
        for one in ast.walk(functions[name]):
            if isinstance(one, ast.Attribute) and (one.attr, ast.unparse(one.value)) == (option, "arguments"):
                return True
            if isinstance(one, ast.Call) and ast.unparse(one.func) == "client" and option == "lab":
                return True  # it asks the gateway of this lab
            if isinstance(one, ast.Name) and one.id in functions.keys() - seen:
                to_see.append(one.id)
    return False


@pytest.mark.parametrize("command", list(commands(build_parser())), ids=lambda one: one.prog)
def test_no_command_takes_an_option_that_it_does_not_look_at(command: argparse.ArgumentParser) -> None:
    options = {name for action in command._actions for name in action.option_strings}
    for option in ("lab", "json"):
        assert (f"--{option}" in options) == reads(command.get_default("target"), option), option


def test_an_error_is_json_where_that_was_asked_for() -> None:
    done = subprocess.run(
        [QUOTEGATE, "peers", "--lab", "none", "--json"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert json.loads(done.stderr)["error"]["code"] == "away"
