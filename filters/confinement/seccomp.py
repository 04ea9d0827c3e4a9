"""Forbid system calls to this process and all it starts, by libseccomp (the only user of it)."""

import ctypes
import errno
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

_ALLOW: Final = 0x7FFF0000
_ERRNO: Final = 0x00050000
_EQUAL, _GREATER, _MASKED_EQUAL = 4, 6, 7  # enum scmp_compare
_CLONE_NEW: Final = (0x10000000, 0x20000000, 0x40000000, 0x00020000, 0x02000000, 0x04000000, 0x08000000)
# What nobody who parses other people's bytes needs: other programs, other processes, the kernel's inside.
DANGEROUS: Final = (
    "execve", "execveat", "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "pidfd_getfd",
    "kcmp", "bpf", "perf_event_open", "userfaultfd", "io_uring_setup", "io_uring_enter", "io_uring_register",
    "add_key", "keyctl", "request_key", "unshare", "setns", "mount", "umount2", "pivot_root", "chroot", "move_mount",
    "open_tree", "fsopen", "fsconfig", "fsmount", "mount_setattr", "open_by_handle_at", "name_to_handle_at",
    "init_module", "finit_module", "delete_module", "kexec_load", "kexec_file_load", "reboot", "swapon", "swapoff",
    "acct", "quotactl", "syslog", "personality", "modify_ldt", "vmsplice", "clock_settime", "settimeofday",
    "adjtimex", "clock_adjtime", "sethostname", "setdomainname", "iopl", "ioperm", "lookup_dcookie", "mknod", "mknodat",
    "setuid", "setgid", "setreuid", "setregid", "setresuid", "setresgid", "setgroups", "capset", "fanotify_init",
)  # fmt: skip


class _Comparison(ctypes.Structure):
    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


def restrict_calls(*, families: Iterable[int] = (), forbidden: Iterable[str] = DANGEROUS) -> bool:
    """Answer forbidden calls, new namespaces and sockets of other families with EPERM. It can't be undone.

    Return whether the kernel and libseccomp could do it. Raises OSError.
    """
    library = _load()
    if library is None:
        return False
    context = library.seccomp_init(ctypes.c_uint32(_ALLOW))
    if not context:
        raise OSError(errno.ENOMEM, "seccomp: no filter could be made")
    try:
        refuse = ctypes.c_uint32(_ERRNO | errno.EPERM)
        for name in forbidden:
            number = library.seccomp_syscall_resolve_name(name.encode())
            if number != -1:  # unknown to this libseccomp: then nothing can be said about it
                _checked(library.seccomp_rule_add_array(context, refuse, number, 0, None))
        _forbid_namespaces(library, context, refuse)
        _forbid_sockets(library, context, refuse, sorted(families))
        _checked(library.seccomp_load(context))
    finally:
        library.seccomp_release(context)
    return True


def seccomp_is_there() -> bool:
    """Tell whether kernel and libseccomp could filter system calls."""
    return _load() is not None and Path("/proc/sys/kernel/seccomp/actions_avail").exists()


def _forbid_namespaces(library: ctypes.CDLL, context: int, refuse: ctypes.c_uint32) -> None:
    number = library.seccomp_syscall_resolve_name(b"clone")
    for flag in _CLONE_NEW:
        _add(library, context, refuse, number, _Comparison(0, _MASKED_EQUAL, flag, flag))
    # its flags lie in memory, where no filter looks: libc falls back to clone
    absent = ctypes.c_uint32(_ERRNO | errno.ENOSYS)
    _checked(
        library.seccomp_rule_add_array(
            context, absent, library.seccomp_syscall_resolve_name(b"clone3"), 0, None
        )
    )


def _forbid_sockets(library: ctypes.CDLL, context: int, refuse: ctypes.c_uint32, families: list[int]) -> None:
    number = library.seccomp_syscall_resolve_name(b"socket")
    if not families:
        _checked(library.seccomp_rule_add_array(context, refuse, number, 0, None))
        return
    for family in range(families[-1]):
        if family not in families:
            _add(library, context, refuse, number, _Comparison(0, _EQUAL, family, 0))
    _add(library, context, refuse, number, _Comparison(0, _GREATER, families[-1], 0))


def _add(
    library: ctypes.CDLL, context: int, action: ctypes.c_uint32, number: int, comparison: _Comparison
) -> None:
    _checked(library.seccomp_rule_add_array(context, action, number, 1, ctypes.byref(comparison)))


def _checked(result: int) -> None:
    if result:
        raise OSError(-result, f"seccomp: {os.strerror(-result)}")


def _load() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_load.argtypes = library.seccomp_release.argtypes = (ctypes.c_void_p,)
    arguments = (ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.c_void_p)
    library.seccomp_rule_add_array.argtypes = arguments
    return library
