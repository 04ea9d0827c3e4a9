"""Declare one command: what it runs, its help with examples, and the options that several have."""

import argparse
import importlib
from collections.abc import Callable

from gateway.cli.examples import EXAMPLES

Group = argparse._SubParsersAction  # what commands are added to


DEFAULT_LAB = "lab"


def of_lab(name: str) -> str:
    """Return what a command that we advise has to be told besides: without it, it would act on another lab."""
    return "" if name == DEFAULT_LAB else f" --lab {name}"


def group(
    commands: "Group[argparse.ArgumentParser]", name: str, text: str
) -> "Group[argparse.ArgumentParser]":
    """Declare a word that others follow."""
    return commands.add_parser(name, help=text, description=text).add_subparsers(
        dest="verb", required=True, metavar="VERB"
    )


def add(
    where: "Group[argparse.ArgumentParser]",
    name: str,
    target: str,
    text: str,
    *,
    lab: bool = True,
    json: bool = True,
) -> argparse.ArgumentParser:
    """Declare a command. target: the function that it is, as `module.function` below gateway.cli.

    lab: whether it is about a lab, or the gateway of one. json: whether it can print JSON.
    """
    sub = where.add_parser(
        name, help=text, description=text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if lab:
        sub.add_argument("--lab", default=DEFAULT_LAB, help=f"which lab (default: {DEFAULT_LAB})")
    if json:
        sub.add_argument("--json", action="store_true", help="print JSON, an error too")
    examples = EXAMPLES[sub.prog.removeprefix("quotegate ")]
    sub.epilog = "\n  ".join(["examples:", *(f"quotegate {one}" for one in examples)])
    sub.set_defaults(run=_call(*target.rsplit(".", 1)), target=target)
    return sub


def _call(module: str, function: str) -> Callable[[argparse.Namespace], int]:
    """Import a command's module only when it runs: the command must start fast."""

    def run(arguments: argparse.Namespace) -> int:
        return int(getattr(importlib.import_module(f"gateway.cli.{module}"), function)(arguments))

    return run
