"""`quotegate fingerprint`: make sets of protected documents, for the inspectors to recognise. No gateway is asked."""

import argparse
import re
import secrets
import time
from pathlib import Path

from filters.inspection.fingerprints.parameters import RUN
from filters.inspection.fingerprints.print_set import SECRET, Document, FingerprintError, PrintSet
from filters.inspection.fingerprints.store import changing, read_set, set_path, write_set
from filters.inspection.fingerprints.texts import texts_of
from filters.inspection.limits import DEFAULT_LIMITS
from gateway.cli.output import say, show_json, table
from gateway.errors import GatewayError


def add(arguments: argparse.Namespace) -> int:
    """Add documents: all of them, or none."""
    if arguments.name and len(arguments.files) > 1:
        raise GatewayError("one-name", "--name names one document; expected one file with it")
    with changing(arguments.set):
        there = set_path(arguments.set).exists()
        prints = read_set(arguments.set) if there else PrintSet(secrets.token_bytes(SECRET))
        known = len(prints.documents)
        for path in arguments.files:
            prints = _added(prints, path, arguments.name or _name_of(path), common=arguments.common)
        write_set(arguments.set, prints)
    new = prints.documents[known:]
    if arguments.json:
        show_json([_facts(one) for one in new])
    else:
        for one in new:
            say(f"{one.name}: {len(one.prints)} fragments; {_meaning(one)}")
    return 0


def list_documents(arguments: argparse.Namespace) -> int:
    """List the documents of a set."""
    rows = [_facts(one) for one in read_set(arguments.set).documents]
    if arguments.json:
        show_json(rows)
    else:
        say(table(rows, ["name", "bytes", "fragments", "recognised", "common", "added"]))
    return 0


def remove(arguments: argparse.Namespace) -> int:
    """Remove a document; what only it had is not recognised any more."""
    with changing(arguments.set):
        write_set(arguments.set, read_set(arguments.set).remove(arguments.name))
    if arguments.json:
        show_json({"removed": arguments.name})
    else:
        say(f"{arguments.name}: removed")
    return 0


def _added(prints: PrintSet, path: Path, name: str, *, common: bool) -> PrintSet:
    try:
        with path.open("rb") as file:
            data = file.read(DEFAULT_LIMITS.object + 1)
    except OSError as error:
        raise GatewayError("unreadable", f"{path}: {error.strerror or error}") from error
    texts = texts_of(data, str(path), DEFAULT_LIMITS)
    try:
        return prints.add(name, texts, len(data), int(time.time()), common=common)
    except FingerprintError as error:
        where = "" if error.message.startswith(f"{path}: ") else f"{path}: "
        raise GatewayError(error.code, f"{where}{error.message}; nothing was added") from error


def _name_of(path: Path) -> str:
    return re.sub(r"[^a-z0-9._-]+", "-", path.name.lower()).strip("-._")[:64]


def _meaning(one: Document) -> str:
    if one.common:
        return "what it says implicates no document"
    if one.recognised == 1000:
        return f"any {RUN} bytes in a row are recognised"
    if one.recognised:
        return f"{one.recognised / 10:.1f} % of its runs of {RUN} bytes are recognised: the others repeat themselves"
    return "recognised only as a whole or in large parts: it is short, or repeats itself"


def _facts(one: Document) -> dict[str, object]:
    return {
        "name": one.name,
        "bytes": one.size,
        "fragments": len(one.prints),
        "recognised": f"{one.recognised / 10:.1f} %",
        "common": "yes" if one.common else "no",
        "added": time.strftime("%Y-%m-%d %H:%M", time.gmtime(one.added)),
    }
