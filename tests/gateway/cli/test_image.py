"""`quotegate image`: what an operator may get wrong is one clear line, and nothing is written."""

import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from gateway.cli.main import main
from tests.vmhost.image.programs import small_uki


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "mine.efi").write_bytes(small_uki())
    (tmp_path / "root").mkdir()
    (tmp_path / "root/program").write_text("#!/bin/sh\n")
    (tmp_path / "key").write_text("11" * 32)
    return tmp_path


def image(*words: Any) -> int:
    with (
        mock.patch.object(sys, "argv", ["quotegate", "image", *map(str, words)]),
        pytest.raises(SystemExit) as ended,
    ):
        main()
    return int(str(ended.value.code))


def described(site: Path) -> None:
    assert image("describe", "mine", "--uki", site / "mine.efi", "--root", site / "root", "--out", site) == 0


def sign(site: Path, *words: Any) -> int:
    given = {
        "--version": 1,
        "-o": site / "references.json",
        **dict(zip(words[::2], words[1::2], strict=True)),
    }
    return image(
        "sign", "mine", "--out", site, "--key", site / "key", *(one for two in given.items() for one in two)
    )


def test_a_described_image_is_signed(site: Path) -> None:
    described(site)
    assert sign(site) == 0
    assert (site / "references.json").exists()


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("--version", -1), "bad-version"),
        (("--version", 1 << 63), "bad-version"),
        (("--days", 0), "bad-days"),
        (("--days", "nan"), "bad-days"),
        (("--days", "inf"), "bad-days"),
        (("-o", "/proc/none/references.json"), "unwritable"),
    ],
)
def test_rejects_what_nobody_could_verify_or_read(
    site: Path, words: tuple[Any, ...], code: str, capsys: pytest.CaptureFixture[str]
) -> None:
    described(site)
    assert sign(site, *words) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"quotegate: {code}: ")
    assert said.count("\n") == 1
    assert not (site / "references.json").exists()
