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


def test_its_log_is_cut_while_it_watches() -> None:
    lab = Lab(f"tr{os.getpid()}")
    lab.monitor_log.parent.mkdir(parents=True)
    lab.monitor_log.write_bytes(b"x" * (MAX_LOG + 1))

    async def story() -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                await Monitor(default_spec(lab, 2), Path("/nowhere")).supervise()

    try:
        asyncio.run(story())
        assert lab.monitor_log.stat().st_size == 0
        assert lab.monitor_log.with_suffix(".old").stat().st_size == MAX_LOG
    finally:
        remove_tree(lab.run_dir)
