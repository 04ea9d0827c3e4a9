"""Set the sysctls the ruleset relies on, or refuse to start (CAP_NET_ADMIN may write /proc/sys/net)."""

import logging
from pathlib import Path

from filters.errors import NetdError
from filters.netd.protocol import NetdCode
from filters.ruleset.sysctls import GATEWAY_SYSCTLS, GATEWAY_SYSCTLS_IF_PRESENT, MACHINE_SYSCTLS_AT_LEAST

_ROOT = Path("/proc/sys")
_log = logging.getLogger(__name__)


def apply_sysctls(interface: str, root: Path = _ROOT) -> None:
    """Write every sysctl where it differs and read it back; raises NetdError `kernel` for one that stays.

    The whole machine's are raised where they may be, and otherwise only complained about.
    """
    for template, value in GATEWAY_SYSCTLS:
        _set(root / template.format(interface=interface), value)
    for template, value in GATEWAY_SYSCTLS_IF_PRESENT:
        path = root / template.format(interface=interface)
        if path.exists():
            _set(path, value)
    for name, least in MACHINE_SYSCTLS_AT_LEAST:
        _raise(root / name, least)


def _set(path: Path, value: str) -> None:
    try:
        if path.read_text().strip() == value:
            return
        path.write_text(value)
        got = path.read_text().strip()
    except OSError as error:
        raise NetdError(NetdCode.KERNEL.value, f"sysctl {path}: {error}", expected=value) from error
    if got != value:
        raise NetdError(NetdCode.KERNEL.value, f"sysctl {path} stays {got}", expected=value, got=got)


def _raise(path: Path, least: int) -> None:
    try:
        if int(path.read_text()) < least:
            path.write_text(str(least))
    except OSError as error:
        _log.warning("sysctl %s is lower than %d and stays so: %s", path, least, error)
