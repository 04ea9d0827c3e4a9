"""One lab for all programs, files worth sending, and the judgement on each test: nothing was found, nobody died."""

import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.lab.conftest import running
from tests.lab.ordinary.site import make_site
from tests.lab.ordinary.world import RULES, World
from vmhost.lab.defaults import default_spec
from vmhost.names import Lab


@pytest.fixture(scope="package")
def world() -> Iterator[World]:
    spec = default_spec(Lab(f"o{os.getpid() % 100000}"))
    with (
        tempfile.TemporaryDirectory(prefix="quotegate-programs-") as folder,
        running(replace(spec, policy_text=spec.policy_text + RULES)) as lab,
    ):
        Path(folder).chmod(0o755)  # servers run as users of their own
        lab.cli("authority", "grant", "--for", "1h")
        lab.until(lambda: lab.json("status")["inspectors"] == 1)
        one = World(lab, Path(folder))
        make_site(one.room("site"))
        try:
            yield one
        finally:
            one.close()


@pytest.fixture
def site(world: World) -> Path:
    return world.folder / "site"


@pytest.fixture
def unharmed(world: World) -> Iterator[None]:
    """What happens in the test is no finding, and costs no inspector."""
    since, pid = world.lab.last_sequence(), world.inspector()
    yield
    time.sleep(0.15)  # a finding's way into the record
    assert world.found(since) == []
    assert world.inspector() == pid
