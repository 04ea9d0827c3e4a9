from pathlib import Path

import pytest

from filters.errors import NetdError
from filters.netd.sysctl import apply_sysctls
from filters.ruleset.chains import CONNECTIONS
from filters.ruleset.sysctls import GATEWAY_SYSCTLS, MACHINE_SYSCTLS_AT_LEAST


def tree(root: Path) -> None:
    for template, _ in GATEWAY_SYSCTLS:
        path = root / template.format(interface="eth0")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("9\n")
    for name, _ in MACHINE_SYSCTLS_AT_LEAST:
        (root / name).write_text("6144\n")


def test_writes_what_differs(tmp_path: Path) -> None:
    tree(tmp_path)
    apply_sysctls("eth0", tmp_path)
    for template, value in GATEWAY_SYSCTLS:
        assert (tmp_path / template.format(interface="eth0")).read_text() == value


def test_makes_room_for_more_connections_than_one_peer_may_have(tmp_path: Path) -> None:
    tree(tmp_path)
    apply_sysctls("eth0", tmp_path)
    room = int((tmp_path / "net/netfilter/nf_conntrack_max").read_text())
    assert room >= 4 * 2 * CONNECTIONS  # two legs each


def test_lowers_nothing_of_the_whole_machine(tmp_path: Path) -> None:
    tree(tmp_path)
    for name, least in MACHINE_SYSCTLS_AT_LEAST:
        (tmp_path / name).write_text(f"{least + 1}\n")
    apply_sysctls("eth0", tmp_path)
    for name, least in MACHINE_SYSCTLS_AT_LEAST:
        assert (tmp_path / name).read_text() == f"{least + 1}\n"


def test_complains_where_the_whole_machine_is_not_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tree(tmp_path)
    (tmp_path / "net/netfilter/nf_conntrack_max").unlink()
    apply_sysctls("eth0", tmp_path)
    assert "nf_conntrack_max" in caplog.text


def test_rejects_missing_sysctl(tmp_path: Path) -> None:
    tree(tmp_path)
    (tmp_path / "net/netfilter/nf_conntrack_tcp_loose").unlink()
    with pytest.raises(NetdError, match="tcp_loose"):
        apply_sysctls("eth0", tmp_path)
