"""The verbs of a VM block a thread while its domain works, and that work needs threads as well."""

import asyncio
import time
from typing import Any

import pytest

from vmhost.vm.guest import VmGuest, threads_for


class Domain:
    """Starts and stops as a real one does: a step of it is done in a thread of the same loop."""

    class spec:
        name = "one"

    async def start(self) -> None:
        for _ in range(3):
            await asyncio.to_thread(time.sleep, 0.01)

    async def stop(self) -> None:
        await self.start()


@pytest.mark.parametrize("machines", [1, 9, 40])
@pytest.mark.timeout(30)
def test_all_machines_can_be_started_and_stopped_at_once(machines: int) -> None:
    async def story() -> None:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(threads_for(machines))
        domain: Any = Domain()
        guests = [VmGuest(domain, None, bytes, loop) for _ in range(machines)]  # type: ignore[arg-type]
        for verbs in ([one.boot for one in guests], [one.power_off for one in guests]):
            async with asyncio.timeout(20):
                await asyncio.gather(*map(asyncio.to_thread, verbs))

    asyncio.run(story())
