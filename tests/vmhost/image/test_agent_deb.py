"""What dpkg is told of the agent's package, and its unit."""

import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from vmhost.errors import HostError
from vmhost.image.agent_deb import control, version_of
from vmhost.image.recipe import Recipe
from vmhost.image.tree import copy_tree
from vmhost.lab.setup import PROJECT

AGENT = PROJECT / "appliance-image" / "agent-deb"


def test_control_names_what_it_depends_on() -> None:
    text = control(Recipe.load(AGENT), "1.2.3", 2049)
    fields = dict(line.split(": ", 1) for line in text.splitlines() if not line.startswith(" "))
    assert fields["Package"] == "quotegate-agent"
    assert fields["Version"] == "1.2.3"
    assert fields["Installed-Size"] == "3"
    # the wheels are compiled for one Python
    assert fields["Depends"].startswith("python3 (>= 3.11~), python3 (<< 3.12~), ")
    assert "libtss2-tcti-device0" in fields["Depends"]


def test_the_version_is_the_products() -> None:
    assert version_of(PROJECT)[0].isdigit()


def test_rejects_source_without_version(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    with pytest.raises(HostError) as raised:
        version_of(tmp_path)
    assert raised.value.code == "no-version"


@pytest.mark.parametrize("recipe", ["agent-deb", "guest"])
def test_the_agent_finds_all_that_it_imports(tmp_path: Path, recipe: str) -> None:
    one = Recipe.load(PROJECT / "appliance-image" / recipe)
    for name in one.code:
        copy_tree(PROJECT / name, tmp_path / name, one.left_out)
    modules = [
        path.relative_to(tmp_path).with_suffix("") for path in (tmp_path / "gateway/agent").glob("*.py")
    ]
    imports = ", ".join(str(path).replace("/", ".").removesuffix(".__init__") for path in modules)
    assert "gateway.agent.connect" in imports
    wheels = sysconfig.get_path("purelib")
    script = f"import sys; sys.path[:0] = {[str(tmp_path), wheels]!r}; import {imports}, authn.tpm_worker, filters.memory"
    # Debian's own Python: the environment's has the sources in its path
    done = subprocess.run(
        [Path(sys.executable).resolve(), "-I", "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
