"""An authority is made whole or not at all."""

import datetime as dt
import stat
from pathlib import Path

import pytest

from vmhost.errors import HostError
from vmhost.issue import authority
from vmhost.issue.authority import CA_CERTIFICATE, Authority

NOW = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


def made() -> Authority:
    return Authority.create("a CA", NOW, 30)


def test_it_is_kept_by_its_owner_alone_and_read_again(tmp_path: Path) -> None:
    one = made()
    one.store(tmp_path / "authority")
    assert stat.S_IMODE((tmp_path / "authority").stat().st_mode) == 0o700
    assert Authority.load(tmp_path / "authority").public_keys == one.public_keys
    assert list(tmp_path.iterdir()) == [tmp_path / "authority"]


def test_one_that_does_not_fit_leaves_nothing_and_can_be_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, _: bytes) -> None:
        assert path.name == CA_CERTIFICATE  # the last file of all
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(authority, "write_durably", full)
        with pytest.raises(HostError, match="No space left") as refused:
            made().store(tmp_path / "authority")
    assert refused.value.code == "unwritable"
    assert list(tmp_path.iterdir()) == []
    made().store(tmp_path / "authority")
    Authority.load(tmp_path / "authority")


@pytest.mark.parametrize("there", ["directory", "file", "link"])
def test_rejects_a_name_that_is_taken(tmp_path: Path, there: str) -> None:
    target = tmp_path / "authority"
    if there == "directory":
        target.mkdir()
    elif there == "file":
        target.write_text("")
    else:
        target.symlink_to("nowhere")
    with pytest.raises(HostError, match="never overwritten") as refused:
        made().store(target)
    assert refused.value.code == "exists"


@pytest.mark.parametrize("days", [0, -1, 99_999_999])
def test_rejects_a_time_that_no_certificate_has(days: int) -> None:
    with pytest.raises(HostError, match="--days: expected more than 0") as refused:
        Authority.create("a CA", NOW, days)
    assert refused.value.code == "bad-days"


@pytest.mark.parametrize("name", ["", "x" * 65])
def test_rejects_a_name_that_no_certificate_has(name: str) -> None:
    with pytest.raises(HostError, match="expected 1 to 64 characters") as refused:
        Authority.create(name, NOW, 30)
    assert refused.value.code == "bad-name"
