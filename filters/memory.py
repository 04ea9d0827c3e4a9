"""Keep a process's memory to itself."""

import ctypes
import os
from typing import Final

_PR_SET_DUMPABLE: Final = 4  # linux/prctl.h


def forbid_inspection() -> None:
    """Let nobody of the same uid trace this process, read its memory, or get a core dump of it.

    Call it first thing. Raises OSError. Source: prctl(2) PR_SET_DUMPABLE, ptrace(2) "access mode checking".
    """
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
