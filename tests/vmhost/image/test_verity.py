"""The verified root, with the real tools."""

import os
import subprocess
from pathlib import Path

import pytest

from vmhost.image.verity import VerityRoot, make_verity_root


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "usr/bin").mkdir(parents=True)
    (root / "usr/bin/program").write_bytes(os.urandom(200_000))
    (root / "bin").symlink_to("usr/bin")
    return root


def _verifies(root: Path, verity: VerityRoot) -> bool:
    argv = ["veritysetup", "verify", root, root, verity.root_hash, f"--hash-offset={verity.hash_offset}"]
    return subprocess.run(argv, capture_output=True, check=False).returncode == 0


def test_the_same_tree_gives_the_same_bytes(tree: Path, tmp_path: Path) -> None:
    one = make_verity_root(tree, tmp_path / "one")
    os.utime(tree / "usr/bin/program", (1, 1))
    assert make_verity_root(tree, tmp_path / "other") == one
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


def test_another_tree_gives_another_hash(tree: Path, tmp_path: Path) -> None:
    one = make_verity_root(tree, tmp_path / "one")
    (tree / "usr/bin/more").write_text("more")
    assert make_verity_root(tree, tmp_path / "other").root_hash != one.root_hash


def test_rejects_flipped_byte(tree: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    verity = make_verity_root(tree, root)
    assert _verifies(root, verity)
    changed = bytearray(root.read_bytes())
    changed[100_000] ^= 1
    root.write_bytes(changed)
    assert not _verifies(root, verity)


def test_the_command_line_has_names_of_our_own() -> None:
    assert VerityRoot("ab" * 32, 4096).words == f"quotegate.roothash={'ab' * 32} quotegate.hashoffset=4096"
