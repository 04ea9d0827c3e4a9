"""Write the monitor's log, and show what guests and QEMU said."""

import codecs
import contextlib
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from vmhost.process import MAX_LOG, is_large


def shown(text: str) -> str:
    """Return text of a guest's on one line that is harmless to a terminal: what is not printable as Python would write it."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def harmless(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Yield what a guest wrote, for a terminal: lines and tabs as they are, everything else as `shown` has it.

    A serial port ends lines with a carriage return too; it is left out there. Pieces may end anywhere.
    """
    decoder, held = codecs.getincrementaldecoder("utf-8")("backslashreplace"), ""
    for piece in pieces:
        text = held + decoder.decode(piece)
        held = text[len(text.rstrip("\r")) :]
        yield _escaped(text.removesuffix(held))
    yield _escaped(held + decoder.decode(b"", final=True))


def _escaped(text: str) -> bytes:
    parts = re.split("([\n\t])", text.replace("\r\n", "\n"))
    return "".join(one if one in ("\n", "\t") else shown(one) for one in parts).encode()


def say(line: str) -> None:
    """Write one line, whatever is in it; a log that can't be written (disk full, reader gone) ends nothing."""
    with contextlib.suppress(OSError, ValueError):
        print(f"monitor: {shown(line)}", flush=True)  # noqa: T201 - its log


def keep_small(log: Path) -> None:
    """Move a log that is too large to `….old`, as a copy: who has it open to append goes on at its new begin."""
    if is_large(log):
        with contextlib.suppress(OSError):  # no space left: what was written is gone, the limit holds
            log.with_suffix(".old").write_bytes(log.read_bytes()[-MAX_LOG:])
        with contextlib.suppress(OSError):
            os.truncate(log, 0)
