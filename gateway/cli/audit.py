"""Take the audit record elsewhere, and then away from the gateway.

An export is a file of JSON lines: where the record begins, its records, and the head by which the gateway's TPM signed
the last of them. Each line of a record is what the chain's hash was taken over, so the file can be checked by itself.
"""

import argparse
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from gateway.audit.chain import record_hash
from gateway.cli.client import WHOLE_RECORD_S, ApiClient
from gateway.cli.command import of_lab
from gateway.cli.exits import EXIT_OK
from gateway.cli.operate import client
from gateway.cli.output import say, show_json
from gateway.errors import GatewayError


def export(arguments: argparse.Namespace) -> int:
    """Write the record, as far as it is signed, into a new file; raises GatewayError."""
    path = Path(arguments.file)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            count = 0
            for line in _lines(client(arguments)):
                file.write(line + "\n")
                count += 1
            file.flush()
            os.fsync(file.fileno())
    except FileExistsError as error:
        raise GatewayError(
            "unwritable", f"{path}: expected a name that is free, and a file is there; choose another"
        ) from error
    except BaseException as error:  # also Ctrl-C: it is no whole export
        with suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            raise GatewayError("unwritable", f"{path}: {error.strerror}") from error
        raise
    through, digest = read_export(path)
    if arguments.json:
        show_json({"file": str(path), "records": count - 2, "through": through, "hash": digest.hex()})
    else:
        then = (
            f"; then: quotegate audit prune {path}{of_lab(arguments.lab)}"
            if count > 2
            else "; there is nothing to prune"
        )
        say(f"{path}: {count - 2} records, up to number {through}{then}")
    return EXIT_OK


def prune(arguments: argparse.Namespace) -> int:
    """Have the gateway take away what an export has; raises GatewayError."""
    through, digest = read_export(Path(arguments.file))
    answer = client(arguments, WHOLE_RECORD_S).post("/v1/audit/prune", through=through, hash=digest.hex())
    if arguments.json:
        show_json(answer)
    else:
        say(f"the record begins after number {through} now; there is room for {answer['room'] >> 20} MiB")
    return EXIT_OK


def _lines(api: ApiClient) -> Iterator[str]:
    extent = api.get("/v1/audit")
    if extent["signed"] is None:
        raise GatewayError("not-signed", "no head of the record is signed yet; try again in a second")
    signed, after = json.loads(extent["signed"]), extent["base"]["sequence"]
    yield _canonical({"base": extent["base"]})
    while after < signed["sequence"]:
        page = api.get(f"/v1/events?after={after}")["events"]
        if not page:
            raise _broken(f"it ends after number {after}, but {signed['sequence']} is signed")
        for event in page[: signed["sequence"] - after]:
            yield _canonical(event)
        after += len(page)
    yield _canonical({"signed": signed})


def read_export(path: Path) -> tuple[int, bytes]:
    """Check an export; return the number of its last record and the chain's hash there. Raises GatewayError."""
    try:
        with path.open() as file:
            base = json.loads(next(file))["base"]
            sequence, digest = int(base["sequence"]), bytes.fromhex(base["hash"])
            for line in file:
                event = json.loads(line)
                if "signed" in event:
                    signed = event["signed"]
                    break
                sequence += 1
                digest = record_hash(digest, sequence, line.rstrip("\n").encode())
            else:
                raise _broken(f"{path} has no signed head at its end")
            if next(file, None) is not None:
                raise _broken(f"{path} goes on after its signed head")
            if (signed["sequence"], signed["hash"]) != (sequence, digest.hex()):
                raise _broken(f"what {path} has up to number {sequence} is not what was signed")
    except OSError as error:
        raise GatewayError("unreadable", f"{path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, StopIteration, RecursionError) as error:
        raise GatewayError(
            "bad-export",
            f"{path} is no export of an audit record: expected what quotegate audit export writes",
        ) from error
    return sequence, digest


def _broken(why: str) -> GatewayError:
    return GatewayError("broken-chain", f"{why}; run: quotegate audit verify")


def _canonical(value: dict[str, Any]) -> str:
    """Write what the chain's hash is taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))
