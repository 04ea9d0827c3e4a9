"""A new TPM's uid gets to its state, whoever made it."""

import os
import stat
from pathlib import Path

import pytest

from vmhost.errors import HostError
from vmhost.issue import new_tpm
from vmhost.issue.new_tpm import KEY, make_tpm

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a TPM's state is given away by root")


def test_its_uid_passes_through_under_a_strict_umask(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(new_tpm, "identify", lambda *_: None)
    before = os.umask(0o077)
    try:
        make_tpm("web", tmp_path / "tpm", 64399)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "tpm").stat().st_mode) == 0o711
    assert stat.S_IMODE((tmp_path / "tpm" / KEY).stat().st_mode) == 0o600


@pytest.mark.parametrize("uid", [-5, -1, 0, (1 << 32) - 1, 1 << 40])
def test_rejects_a_uid_that_is_root_or_nobodys(tmp_path: Path, uid: int) -> None:
    """To the kernel -1 is "as it is": the TPM would run as root."""
    with pytest.raises(HostError, match="expected an unprivileged one") as refused:
        make_tpm("web", tmp_path / "tpm", uid)
    assert refused.value.code == "bad-spec"
    assert list(tmp_path.iterdir()) == []
