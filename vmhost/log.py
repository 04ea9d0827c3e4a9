"""Write the monitor's log."""

import contextlib


def say(line: str) -> None:
    """Write one line, whatever is in it; a log that can't be written (disk full, reader gone) ends nothing.

    Parts of it were said by guests and QEMU: what is no printable character is written as Python would.
    """
    shown = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in line)
    with contextlib.suppress(OSError, ValueError):
        print(f"monitor: {shown}", flush=True)  # noqa: T201 - its log
