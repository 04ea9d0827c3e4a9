"""The lab's own copy of the code."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from vmhost.lab.code import ENVIRONMENT, copy_code
from vmhost.lab.setup import PROJECT
from vmhost.measured_boot import PACKAGES, code_digest


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for package in PACKAGES:
        (tmp_path / "project" / package / "part").mkdir(parents=True)
        (tmp_path / "project" / package / "part" / "one.py").write_text(f"name = '{package}'\n")
    return tmp_path / "project"


@pytest.fixture
def strict_umask() -> Iterator[None]:
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_the_copy_measures_like_the_original(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    copy_code(PROJECT, tmp_path / "code")
    assert code_digest(tmp_path / "code") == code_digest(PROJECT)


def test_an_edited_project_does_not_change_the_copy(project: Path, tmp_path: Path) -> None:
    target = tmp_path / "code"
    target.mkdir()
    copy_code(project, target)
    before = code_digest(target)
    (project / "authn/part/one.py").write_text("name = 'edited'\n")
    assert code_digest(target) == before != code_digest(project)


def test_compiled_files_of_the_project_do_not_come_along(project: Path, tmp_path: Path) -> None:
    cache = project / "authn/part/__pycache__"
    cache.mkdir()
    (cache / "unmeasured.cpython-311.pyc").write_bytes(b"not what the source says")
    (tmp_path / "code").mkdir()
    copy_code(project, tmp_path / "code")
    names = [path.name for path in (tmp_path / "code/authn/part/__pycache__").iterdir()]
    assert len(names) == 1
    assert names[0].startswith("one.")


@pytest.mark.usefixtures("strict_umask")
def test_the_services_may_read_the_copy_whatever_the_umask(project: Path, tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    copy_code(project, tmp_path / "code")
    for path in (tmp_path / "code", *(tmp_path / "code").rglob("*")):
        assert path.stat().st_mode & 0o777 == (0o755 if path.is_dir() else 0o644)
    assert (tmp_path / "code" / ENVIRONMENT).is_dir()
