"""Print answers for people, or as JSON."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from gateway.errors import GatewayError
from gateway.events.plain import escaped, escaped_lines


def say(text: str) -> None:
    """Print a line, or lines of ours, at once. What came from elsewhere can't move the cursor or recolour the screen."""
    with answering():
        print(escaped_lines(text), flush=True)  # noqa: T201 - the command's answer


@contextmanager
def answering() -> Iterator[None]:
    """Write an answer; raises GatewayError `unwritable` where it can't be taken down."""
    try:
        yield
    except BrokenPipeError:
        raise  # its reader has read enough
    except OSError as error:
        raise GatewayError(
            "unwritable", f"standard output: {error.strerror or error}; what was asked for may be done"
        ) from error


def complain(text: str) -> None:
    """Print an error."""
    with suppress(OSError):  # the exit status still tells
        print(escaped_lines(text), file=sys.stderr, flush=True)  # noqa: T201 - the command's answer


def show_json(data: object) -> None:
    """Print JSON."""
    say(json.dumps(data, indent=1))


def table(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Lay rows out in columns."""
    cells = [
        [escaped(str("" if row.get(name) is None else row.get(name))) for name in columns] for row in rows
    ]
    widths = [max(len(line[at]) for line in [list(columns), *cells]) for at in range(len(columns))]
    lines = [columns, *cells]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
