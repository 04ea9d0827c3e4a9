import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.filters.netd.daemon import Client, Daemon, install_code
from tests.filters.ruleset import policies
from tests.filters.ruleset.network import Network, wired


@pytest.fixture(scope="session")
def code() -> Iterator[Path]:
    directory = Path(tempfile.mkdtemp(prefix="qg-t-code-"))
    try:
        directory.chmod(0o755)
        install_code(directory)
        yield directory
    finally:
        shutil.rmtree(directory)


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with wired() as network:
        yield network


@pytest.fixture
def daemon(network: Network, code: Path) -> Iterator[Daemon]:
    daemon = Daemon(network, code)
    try:
        daemon.wait_ready()
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def client(daemon: Daemon) -> Iterator[Client]:
    """Connected, nothing loaded."""
    client = Client(daemon.socket)
    try:
        yield client
    finally:
        client.close()


@pytest.fixture
def ready(client: Client) -> Client:
    """The small policy loaded, both guests trusted, communication allowed."""
    client.set_up(policies.small())
    return client
