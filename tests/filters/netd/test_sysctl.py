from pathlib import Path

import pytest

from filters.errors import NetdError
from filters.netd.sysctl import apply_sysctls
from filters.ruleset.sysctls import GATEWAY_SYSCTLS


def tree(root: Path) -> None:
    for template, _ in GATEWAY_SYSCTLS:
        path = root / template.format(interface="eth0")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("9\n")


def test_writes_what_differs(tmp_path: Path) -> None:
    tree(tmp_path)
    apply_sysctls("eth0", tmp_path)
    for template, value in GATEWAY_SYSCTLS:
        assert (tmp_path / template.format(interface="eth0")).read_text() == value


def test_rejects_missing_sysctl(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "net/netfilter/nf_conntrack_tcp_loose").unlink()
    with pytest.raises(NetdError, match="tcp_loose"):
        apply_sysctls("eth0", tmp_path)
