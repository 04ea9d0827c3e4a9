from collections.abc import Iterator

import pytest

from tests.filters.ruleset import policies
from tests.filters.ruleset.network import A, B, Network, wired


@pytest.fixture(scope="module")
def wiring() -> Iterator[Network]:
    with wired() as network:
        yield network


@pytest.fixture
def fresh(wiring: Network) -> Network:
    """The small policy just loaded: nobody trusted, no authority, no lease."""
    wiring.load(policies.small())
    return wiring


@pytest.fixture
def network(fresh: Network) -> Network:
    """The same with authority and both guests trusted."""
    fresh.authorize()
    fresh.trust(A, B)
    return fresh
