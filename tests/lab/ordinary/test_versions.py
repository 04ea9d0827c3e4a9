"""Which programs were tried: `pytest -s tests/lab/ordinary/test_versions.py`, for docs/inspection.md."""

import shutil
import sys
from pathlib import Path

from tests.lab.ordinary.world import PATH, VERSIONS, version


def test_installed_programs_say_their_versions() -> None:
    """One that is installed and says nothing would be skipped for ever."""
    said = {name: version(name) for name in VERSIONS}
    print(*(f"\n{name}: {one or 'not installed'}" for name, one in said.items()), sep="")
    for name, one in said.items():
        program = VERSIONS[name][0]
        alone = program not in (sys.executable, "/usr/bin/python3", "dpkg-query") and not program.startswith(
            ".venv"
        )
        assert one or not alone or not (shutil.which(program, path=PATH) or Path(program).exists()), name
