"""What dataclasses write is compiled by the image's builder, used inside, and never more than a saving of time."""

import marshal
import os
import subprocess
import sys

import pytest

from vmhost.errors import HostError
from vmhost.image.generated import FOLDER, add_generated
from vmhost.lab.setup import PROJECT

MODULE = '''
from dataclasses import dataclass

@dataclass(frozen=True, slots=True)
class Place:
    """A place."""
    name: str
    at: int = 7
'''
ASK = "import sitecustomize, trial.place as p; place = p.Place('here'); print(place.at, place, place == p.Place('here', 7), hash(place) == hash(p.Place('here')))"


@pytest.fixture
def code(tmp_path):
    (tmp_path / "trial").mkdir()
    (tmp_path / "trial/__init__.py").touch()
    (tmp_path / "trial/place.py").write_text(MODULE)
    return tmp_path


def _ask(code) -> str:
    argv = [sys.executable, "-B", "-c", ASK]
    environment = {**os.environ, "PYTHONPATH": str(code)}
    return subprocess.run(argv, capture_output=True, text=True, check=True, env=environment).stdout


def test_a_class_is_the_same_with_and_without(code) -> None:
    add_generated(code, ["trial"], PROJECT)
    told = _ask(code)
    assert told == "7 Place(name='here', at=7) True True\n"
    (code / FOLDER / "trial.place").unlink()
    assert _ask(code) == told


def test_what_was_compiled_ahead_is_what_runs(code) -> None:
    add_generated(code, ["trial"], PROJECT)
    file = code / FOLDER / "trial.place"
    compiled = marshal.loads(file.read_bytes())
    (text,) = (one for one in compiled if "def __repr__" in one)
    compiled[text] = marshal.dumps(
        compile(text.replace("Place", "x").replace("{self.at!r}", "other"), "", "exec")
    )
    file.write_bytes(marshal.dumps(compiled))
    assert "at=other" in _ask(code)


def test_a_changed_text_is_compiled_anew(code) -> None:
    add_generated(code, ["trial"], PROJECT)
    (code / "trial/place.py").write_text(MODULE + "    much: int = 1\n")
    assert "at=7, much=1" in _ask(code)


def test_the_same_sources_give_the_same_bytes(code, tmp_path_factory) -> None:
    add_generated(code, ["trial"], PROJECT)
    first = (code / FOLDER / "trial.place").read_bytes()
    again = tmp_path_factory.mktemp("again")
    (code / "trial").rename(again / "trial")
    add_generated(again, ["trial"], PROJECT)
    assert (again / FOLDER / "trial.place").read_bytes() == first


def test_a_module_that_cannot_be_loaded_stops_the_build(code) -> None:
    (code / "trial/odd.py").write_text("import not_in_the_image\n")
    with pytest.raises(HostError, match="not_in_the_image"):
        add_generated(code, ["trial"], PROJECT)
