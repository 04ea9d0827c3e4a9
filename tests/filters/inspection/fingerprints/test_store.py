"""Sets on disk: private, whole, one writer at a time."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from filters.inspection.fingerprints import store
from filters.inspection.fingerprints.print_set import FingerprintError
from filters.inspection.fingerprints.store import FILE_NAME, changing, read_set, set_path, write_set
from tests.filters.inspection.fingerprints.documents import print_set, prose

SET = print_set({"plan": prose(1)})


def test_is_for_its_owner_alone_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    os.umask(os.umask(0))
    write_set(tmp_path, SET)
    assert [one.name for one in tmp_path.iterdir()] == ["fingerprints.qgp"]
    assert (tmp_path / "fingerprints.qgp").stat().st_mode & 0o777 == 0o600
    assert read_set(tmp_path).documents[0].name == "plan"
    assert set_path(tmp_path) == tmp_path / "fingerprints.qgp"
    assert set_path(tmp_path / "other") == tmp_path / "other"


def test_a_set_that_inspectors_may_read_stays_theirs(tmp_path: Path) -> None:
    write_set(tmp_path, SET)
    (tmp_path / "fingerprints.qgp").chmod(0o640)
    group = next((one for one in os.getgroups() if one != os.getgid()), os.getgid())
    os.chown(tmp_path / "fingerprints.qgp", -1, group)
    write_set(tmp_path, print_set({"budget": prose(2)}))
    status = (tmp_path / "fingerprints.qgp").stat()
    assert (status.st_mode & 0o777, status.st_gid) == (0o640, group)


def test_a_write_that_fails_leaves_the_old_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_set(tmp_path, SET)

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(store.os, "fsync", full)
    with pytest.raises(FingerprintError, match="No space left"):
        write_set(tmp_path, print_set({"budget": prose(2)}))
    assert [one.name for one in read_set(tmp_path).documents] == ["plan"]
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_added_through_a_link_goes_where_the_link_leads(tmp_path: Path) -> None:
    """As into a gateway's directory: else it would be kept beside, and nobody would look for it."""
    there, link = tmp_path / "gateway", tmp_path / "mine.qgp"
    there.mkdir()
    write_set(there, print_set({"plan": prose(1)}))
    link.symlink_to(there / FILE_NAME)
    write_set(link, print_set({"plan": prose(1), "budget": prose(2)}))
    assert link.is_symlink()
    assert [one.name for one in read_set(there).documents] == ["plan", "budget"]
    link.unlink()
    link.symlink_to(link)
    with pytest.raises(FingerprintError, match=r"mine\.qgp: "):
        read_set(link)


def test_where_no_set_is_it_says_how_to_begin_one(tmp_path: Path) -> None:
    with pytest.raises(
        FingerprintError,
        match=r"none\.qgp: No such file or directory; begin a set with: quotegate fingerprint add",
    ):
        read_set(tmp_path / "none.qgp")


def test_writers_wait_for_each_other(tmp_path: Path) -> None:
    write_set(tmp_path, print_set({}))

    def add(number: int) -> None:
        with changing(tmp_path):
            text = prose(number, 1000)
            write_set(tmp_path, read_set(tmp_path).add(f"d{number}", [text], 1000, 1, common=False))

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(24)))
    assert {one.name for one in read_set(tmp_path).documents} == {f"d{one}" for one in range(24)}


def test_errors_name_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(FingerprintError, match=r"fingerprints\.qgp: No such file"):
        read_set(tmp_path)
    (tmp_path / "x").write_bytes(b"nonsense")
    with pytest.raises(FingerprintError, match="x: expected"):
        read_set(tmp_path / "x")
    with pytest.raises(FingerprintError, match="No such file"), changing(tmp_path / "no" / "set"):
        pass
    with pytest.raises(FingerprintError, match="No such file"):
        write_set(tmp_path / "no" / "set", SET)
    monkeypatch.setattr(store, "MOST_BYTES", 3)
    with pytest.raises(FingerprintError, match="at most 3 bytes; this would be"):
        write_set(tmp_path / "y", SET)
    with pytest.raises(FingerprintError, match="at most 3 bytes"):
        read_set(tmp_path / "x")


def test_who_asks_for_no_fingerprints_loads_no_numpy() -> None:
    code = (
        "import sys; from filters.inspection.toolbox import Toolbox; from filters.inspection.spec import InspectionSpec; "
        "Toolbox().judge(InspectionSpec()); import filters.inspection.stream; sys.exit('numpy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
