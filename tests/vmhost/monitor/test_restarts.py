"""What a monitor writes: why it restarts the gateway, and never more than so much. No machine is started."""

import asyncio
import contextlib
import os
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from vmhost.lab.defaults import default_spec
from vmhost.lab.teardown import remove_tree
from vmhost.monitor.monitor import Monitor
from vmhost.names import GATEWAY, Lab
from vmhost.process import MAX_LOG


def test_a_restart_names_the_guest_at_whose_word_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    async def story() -> None:
        monitor = Monitor(default_spec(Lab("tr"), 2), Path("/nowhere"))
        gateway: Any = Mock()
        gateway.name, monitor.gateway = GATEWAY, gateway
        monitor.unit.started(0.0)
        await monitor.gateway_refused("web", "pcr-mismatch")
        gateway.boot.assert_called_once_with()

    asyncio.run(story())
    assert "the gateway is restarted: web refused it: pcr-mismatch\n" in capsys.readouterr().out


@pytest.mark.parametrize("waits", [False, True])
def test_its_log_is_cut_while_it_watches(waits: bool) -> None:
    """Also while somebody else has the machine that it has to see to."""
    lab = Lab(f"tr{os.getpid()}")
    lab.monitor_log.parent.mkdir(parents=True)

    async def story() -> None:
        monitor = Monitor(default_spec(lab, 2), Path("/nowhere"))
        monitor.unit.started(0.0)
        gateway: Any = Mock(alive=False)
        monitor.gateway = gateway
        async with contextlib.AsyncExitStack() as stack:
            if waits:
                await stack.enter_async_context(monitor._locks[GATEWAY])
            watching = asyncio.create_task(monitor.supervise())
            await asyncio.sleep(0.3)
            assert gateway.stop_programs.called is not waits
            lab.monitor_log.write_bytes(b"x" * (MAX_LOG + 1))
            async with asyncio.timeout(20):
                while lab.monitor_log.stat().st_size:
                    await asyncio.sleep(0.05)
            watching.cancel()

    try:
        asyncio.run(story())
        assert lab.monitor_log.stat().st_size == 0
        assert lab.monitor_log.with_suffix(".old").stat().st_size == MAX_LOG
    finally:
        remove_tree(lab.run_dir)
