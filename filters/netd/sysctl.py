"""Set the sysctls the ruleset relies on, or refuse to start (CAP_NET_ADMIN may write /proc/sys/net)."""

from pathlib import Path

from filters.errors import NetdError
from filters.netd.protocol import NetdCode
from filters.ruleset.sysctls import GATEWAY_SYSCTLS, GATEWAY_SYSCTLS_IF_PRESENT

_ROOT = Path("/proc/sys")


def apply_sysctls(interface: str, root: Path = _ROOT) -> None:
    """Write every sysctl where it differs and read it back; raises NetdError `kernel` for one that stays."""
    for template, value in GATEWAY_SYSCTLS:
        _set(root / template.format(interface=interface), value)
    for template, value in GATEWAY_SYSCTLS_IF_PRESENT:
        path = root / template.format(interface=interface)
        if path.exists():
            _set(path, value)


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
