"""The words about content: captures, files, rules and protected documents."""

import argparse
from pathlib import Path

from gateway.cli.command import Group, add, group


def add_inspection(commands: "Group[argparse.ArgumentParser]") -> None:
    """Declare them."""
    _add_inspect(
        add(
            commands,
            "inspect",
            "inspect.inspect",
            "inspect a capture or a file, as the gateway would",
            lab=False,
        )
    )
    _add_fingerprint(group(commands, "fingerprint", "recognise protected documents in transit"))
    _add_rules(group(commands, "rules", "your own rule sets"))


def _add_inspect(inspect: argparse.ArgumentParser) -> None:
    inspect.add_argument("capture", nargs="?", type=Path, help="a pcap or pcapng file")
    inspect.add_argument("--file", type=Path, metavar="PATH", help="inspect one file as an object in transit")
    inspect.add_argument(
        "--detectors",
        default="secrets,personal,malware",
        help="what to look for (default: secrets,personal,malware)",
    )
    inspect.add_argument("--patterns", type=Path, metavar="FILE", help="your own patterns and marks (TOML)")
    inspect.add_argument("--yara", type=Path, metavar="DIRECTORY", help="your own YARA rules (*.yar)")
    inspect.add_argument(
        "--rules", type=Path, metavar="FILE", action="append", default=[], help="your own Suricata rules"
    )
    _add_variables(inspect)
    inspect.add_argument(
        "--policy",
        type=Path,
        metavar="FILE",
        help="inspect each flow of a capture as this policy's rules say",
    )
    inspect.add_argument("--clamd", type=Path, metavar="SOCKET", help="ask this clamd as well")
    inspect.add_argument(
        "--fingerprints", type=Path, metavar="PATH", help="a set that `quotegate fingerprint add` made"
    )
    inspect.add_argument(
        "--flows",
        action="store_true",
        help="tell of each flow of a capture what it spoke: hosts, TLS names, versions and JA4, SSH banners",
    )
    inspect.add_argument("--check", action="store_true", help="exit 4 when something is found")


def _add_rules(rules: "Group[argparse.ArgumentParser]") -> None:
    check = add(rules, "check", "rules.check", "say which rules can be used", lab=False)
    check.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a file of Suricata rules")
    _add_variables(check)


def _add_variables(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--var",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a variable of the rules, as HOME_NET=10.0.0.0/8",
    )


def _add_fingerprint(fingerprint: "Group[argparse.ArgumentParser]") -> None:
    new = add(fingerprint, "add", "fingerprint.add", "add documents to a set; a new set is made", lab=False)
    new.add_argument("files", nargs="+", type=Path, metavar="FILE", help="a document; archives are opened")
    new.add_argument("--name", help="what findings call it (default: the file's name)")
    new.add_argument(
        "--common",
        action="store_true",
        help="a harmless file (a letterhead, a licence): what is in it implicates no document",
    )
    listed = add(fingerprint, "list", "fingerprint.list_documents", "list the documents of a set", lab=False)
    remove = add(fingerprint, "remove", "fingerprint.remove", "remove a document from a set", lab=False)
    remove.add_argument("name")
    for command in (new, listed, remove):
        command.add_argument(
            "--set",
            type=Path,
            default=Path("fingerprints.qgp"),
            metavar="PATH",
            help="the set's file, or its directory (default: fingerprints.qgp)",
        )
