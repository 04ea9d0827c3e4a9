"""Virtual machines whose monitor was killed, and whose run directory went with the host: they go on with their state.

Also with documents that ran out meanwhile, once they are signed anew, and with files that an operator laid down.
"""

import os
import signal
import time
from dataclasses import replace

import pytest

from gateway.cli.client import ApiClient, api_socket
from tests.vm.conftest import IMAGES, RETURN_S, VmLab
from tests.vmhost.lab.test_killed import leftovers, monitor_of
from vmhost.errors import HostError
from vmhost.lab.defaults import vm_spec
from vmhost.lab.renewal import renew
from vmhost.lab.setup import bring_back, bring_up
from vmhost.lab.teardown import tear_down
from vmhost.monitor.client import ask
from vmhost.names import GATEWAY, Lab

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]
DAYS = 3
WORDS = '[[mark]]\nid = "plans"\nwords = ["Secret plans"]\n'


def taken(lab: VmLab, since: int) -> list[str]:
    """The operator's files that the gateway's inspector uses."""
    return [name for event in lab.events(since, "material-taken") for name in event["unmapped"]["files"]]


def test_machines_go_on_with_the_state_they_left() -> None:
    lab = Lab(f"vr{os.getpid()}")
    spec = replace(vm_spec(lab, IMAGES), return_within_s=RETURN_S)
    bring_up(spec)
    try:
        one = VmLab(spec, ApiClient(api_socket(lab.name)))
        one.cli("authority", "grant")
        one.until(one.all_trusted)
        for rebooted in (False, True):
            before, machine = one.last_sequence(), one.status_of(GATEWAY)["pids"]["qemu"]
            monitor = monitor_of(lab)
            assert monitor is not None
            os.kill(monitor, signal.SIGKILL)
            while monitor_of(lab) is not None:  # on a busy host a killed process lives for a moment
                time.sleep(0.01)
            if rebooted:
                tear_down(lab, keep_state=True)
                renew(spec, -1)
                with pytest.raises(HostError, match="ran out on"):
                    bring_back(lab)
                (lab.material / "words.toml").write_text(WORDS)
            days = DAYS if rebooted else None
            assert bring_back(lab, days) == replace(spec, valid_days=days or spec.valid_days)
            one.until(one.all_trusted)
            assert one.status_of(GATEWAY)["pids"]["qemu"] != machine
            assert one.api.get("/v1/status")["authority"] == "valid"
            assert one.last_sequence() > before
            assert one.json("audit", "verify")["intact"]
            assert ask(lab, "update_status")["version"] == 1
        one.until(lambda: taken(one, before) == ["words.toml"])
    finally:
        tear_down(lab)
        assert leftovers(lab) == []
