"""Declare the words of the `quotegate` command: what there is to say, and an example of each."""

import argparse
import importlib

from gateway.cli.command import add
from gateway.cli.parser_gateway import add_gateway
from gateway.cli.parser_inspection import add_inspection
from gateway.cli.parser_machines import add_machines

EXAMPLES = """examples:
  quotegate lab up                              bring up a gateway and the peers web, db, ops
  quotegate authority grant --for 8h            permit guests to talk at all
  quotegate peers                               see who is trusted, and why not
  quotegate explain web db tcp/5432             what would happen, and what to do
  quotegate lab exec web -- quotegate-agent connect db tcp/5432 < file
  quotegate lab tamper web; quotegate events --follow
  quotegate lab down

exit status: 0 done, 1 error or refused, 2 wrong usage, 3 denied (explain) or fell back (update),
4 a check found something
"""


class _Version(argparse.Action):
    """Print what is installed; looked up only when somebody asks, for the command must start fast."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        """See argparse.Action."""
        version = importlib.import_module("importlib.metadata").version("quotegate")
        importlib.import_module("gateway.cli.output").say(f"quotegate {version}")
        parser.exit()


def build_parser() -> argparse.ArgumentParser:
    """Declare every command with its help."""
    parser = argparse.ArgumentParser(
        prog="quotegate",
        description="Operate a Quotegate gateway.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version, and end")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    add_gateway(commands)
    add_inspection(commands)
    add_machines(commands)
    completion = add(
        commands,
        "completion",
        "completion.completion",
        "print a shell's completion script",
        lab=False,
        json=False,
    )
    completion.add_argument("shell", choices=("bash", "zsh", "tcsh"))
    return parser
