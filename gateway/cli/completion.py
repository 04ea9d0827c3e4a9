"""Print what makes a shell complete this command."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import shtab

from gateway.cli.output import say
from gateway.cli.parser import build_parser


def completion(arguments: argparse.Namespace) -> int:
    """Print the script for one shell, made from the parser itself."""
    parser = build_parser()
    for action in _actions(parser):
        if action.type is Path:
            action.complete = shtab.FILE  # type: ignore[attr-defined]
    say(shtab.complete(parser, arguments.shell))
    return 0


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                yield from _actions(sub)
