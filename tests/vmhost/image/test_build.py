"""A build that fails leaves what was there. Its tools are stand-ins."""

import os
from pathlib import Path

import pytest

from tests.vmhost.image.programs import small_uki
from vmhost.errors import HostError
from vmhost.image import build as building
from vmhost.image.build import STUB, build, kernel_of
from vmhost.image.recipe import Recipe
from vmhost.image.verity import VerityRoot

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="packages are unpacked by root")
FILES = ("one.efi", "one.img", "one.json", "one.root")


def recipe(root: Recipe | None) -> Recipe:
    return Recipe(Path("one"), "one", "s", (), (), (), (), (), (), (), "quiet", root=root)


@pytest.fixture(autouse=True)
def tools(monkeypatch: pytest.MonkeyPatch) -> None:
    def unpack(_: object, __: str, root: Path) -> tuple[()]:
        for name in (STUB, "boot/vmlinuz-6.1"):
            (root / name).parent.mkdir(parents=True)
            (root / name).write_bytes(b"new")
        return ()

    def gather(_: object, __: Path, ___: Path, tree: Path) -> None:
        (tree / "etc").mkdir(parents=True)
        (tree / "var").mkdir()
        (tree / "etc/os-release").write_text("new")

    def make_root(_: Path, target: Path) -> VerityRoot:
        target.write_bytes(b"new")
        return VerityRoot("0" * 64, 3)

    monkeypatch.setattr(building, "unpack", unpack)
    monkeypatch.setattr(building, "gather", gather)
    monkeypatch.setattr(building, "make_verity_root", make_root)
    monkeypatch.setattr(building, "build_uki", lambda _: small_uki())
    monkeypatch.setattr(building, "make_esp", lambda _, target: target.write_bytes(b"new"))


def test_what_was_built_takes_the_place_of_what_was_there(tmp_path: Path) -> None:
    built = build(recipe(recipe(None)), tmp_path, tmp_path / "out")
    assert (
        {one.name for one in (tmp_path / "out").iterdir()} == set(FILES) == {one.name for one in built.files}
    )


@pytest.mark.parametrize("error", [HostError("build-failed", "no"), OSError(28, "No space left on device")])
@pytest.mark.parametrize(
    "step", ["unpack", "gather", "make_verity_root", "build_uki", "make_esp", "_manifest"]
)
def test_a_build_that_fails_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str, error: Exception
) -> None:
    def fails(*_: object) -> None:
        raise error

    for name in FILES:
        (tmp_path / name).write_bytes(b"before")
    monkeypatch.setattr(building, step, fails)
    with pytest.raises(HostError) as raised:
        build(recipe(recipe(None)), tmp_path, tmp_path)
    assert raised.value.code == "build-failed"
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == dict.fromkeys(FILES, b"before")


@pytest.mark.parametrize("names", [(), ("vmlinuz-6.1.0-1", "vmlinuz-6.1.0-2")], ids=["none", "two"])
def test_rejects_packages_without_one_kernel(tmp_path: Path, names: tuple[str, ...]) -> None:
    (tmp_path / "boot").mkdir()
    for name in names:
        (tmp_path / "boot" / name).write_text("")
    with pytest.raises(HostError, match=rf"expected one, got {', '.join(names) or 'none'}") as raised:
        kernel_of(tmp_path)
    assert raised.value.code == "bad-recipe"


def test_rejects_a_recipe_that_is_not_there_and_names_those_that_are(tmp_path: Path) -> None:
    for name in ("guest", "gateway"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "recipe.toml").write_text("")
    with pytest.raises(HostError, match="there are recipes of gateway, guest") as raised:
        Recipe.load(tmp_path / "guset")
    assert raised.value.code == "no-recipe"
