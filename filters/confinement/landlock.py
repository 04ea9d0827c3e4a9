"""Let this process, and all it starts, reach only named directories (landlock(7))."""

import contextlib
import ctypes
import os
import stat
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_CREATE, _ADD, _RESTRICT = 444, 445, 446  # the same numbers on every architecture
_VERSION_FLAG, _PATH_BENEATH = 1, 1
_PR_SET_NO_NEW_PRIVS: Final = 38
# linux/landlock.h
_EXECUTE, _WRITE, _READ, _LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
_ALL_BY_ABI: Final = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
_REMOVE_DIRECTORY, _REMOVE_FILE, _MAKE_FILE, _TRUNCATE = 1 << 4, 1 << 5, 1 << 8, 1 << 14
_OF_FILES: Final = _EXECUTE | _WRITE | _READ | _TRUNCATE
_NET_ABI, _SCOPE_ABI = 4, 6
_TCP: Final = 0b11  # bind, connect
_SCOPES: Final = 0b11  # abstract unix sockets, signals


def landlock_abi() -> int:
    """Return the kernel's version of Landlock; 0 where there is none."""
    version: int = _libc().syscall(_CREATE, None, 0, _VERSION_FLAG)
    return max(0, version)


def restrict_files(readable: Iterable[Path], writable: Iterable[Path] = (), *, alone: bool) -> bool:
    """Forbid every file that is not below one of these; what does not exist is left out. It can't be undone.

    alone: neither bind nor connect TCP, reach abstract unix sockets, or signal processes outside. Nothing is ever
    executed again, wherever it lies. Return whether the kernel could do it. Raises OSError.
    """
    abi = landlock_abi()
    if not abi:
        return False
    all_rights = _ALL_BY_ABI[max(one for one in _ALL_BY_ABI if one <= abi)]
    network = _TCP if abi >= _NET_ABI and alone else 0
    scopes = _SCOPES if abi >= _SCOPE_ABI and alone else 0
    ruleset = _call(
        _CREATE, struct.pack("=QQQ", all_rights, network, scopes)[: _attribute_size(abi)], flags=0
    )
    try:
        for path in readable:
            _allow(ruleset, path, _READ | _LIST)
        for path in writable:
            # directories: those that Python's multiprocessing made before, and clears away at the end
            write = _READ | _LIST | _WRITE | _MAKE_FILE | _REMOVE_FILE | _REMOVE_DIRECTORY | _TRUNCATE
            _allow(ruleset, path, write & all_rights)
        if _libc().prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or _libc().syscall(_RESTRICT, ruleset, 0):
            raise _error()
    finally:
        os.close(ruleset)
    return True


def _attribute_size(abi: int) -> int:
    return 8 if abi < _NET_ABI else 16 if abi < _SCOPE_ABI else 24


def _allow(ruleset: int, path: Path, rights: int) -> None:
    with contextlib.suppress(FileNotFoundError):
        place = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(place).st_mode):
                rights &= _OF_FILES
            packed = ctypes.create_string_buffer(struct.pack("=Qi", rights, place))
            if _libc().syscall(_ADD, ruleset, _PATH_BENEATH, packed, 0):
                raise _error()
        finally:
            os.close(place)


def _call(number: int, attribute: bytes, flags: int) -> int:
    made: int = _libc().syscall(number, ctypes.create_string_buffer(attribute), len(attribute), flags)
    if made < 0:
        raise _error()
    return made


def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _error() -> OSError:
    number = ctypes.get_errno()
    return OSError(number, f"landlock: {os.strerror(number)}")
