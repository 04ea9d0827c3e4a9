"""What dpkg is told of the agent's package, and its unit."""

from pathlib import Path

import pytest

from vmhost.errors import HostError
from vmhost.image.agent_deb import control, version_of
from vmhost.image.recipe import Recipe
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
