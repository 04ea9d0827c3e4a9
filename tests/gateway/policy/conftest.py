"""Lives of a gateway, one after the other on the same disk."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.gateway.policy.lives import ONE, Dialogue, Gateway


@pytest.fixture
def run(tmp_path: Path) -> Callable[[Dialogue], Gateway]:
    """Run one life of the gateway; the next one finds the same disk."""

    def live(dialogue: Dialogue) -> Gateway:
        async def whole() -> Gateway:
            gateway = Gateway(tmp_path)
            await gateway.changer.start(ONE, "policy.toml")
            await dialogue(gateway)
            gateway.store.close()
            gateway.spool.close()
            return gateway

        return asyncio.run(whole())

    return live
