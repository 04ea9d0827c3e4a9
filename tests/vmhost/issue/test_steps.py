"""What an operator is told to type works, wherever things lie."""

import shlex
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from authn.portmap import PortEntry
from vmhost.issue.steps import Issued, steps

PLACE = PortEntry("web", "tap3", "52:54:00:aa:00:03", IPv4Address("10.0.0.2"), "u")


@pytest.mark.parametrize("name", ["web", "my guest", "$(reboot)", "it's"])
def test_each_command_names_the_files_that_were_issued(name: str) -> None:
    out, gateway = Path("/srv", name), Path("/etc", name)
    text = steps(Issued(PLACE, out, gateway, "sha256:0", has_tpm=True))
    commands = [
        shlex.split(one) for one in text.splitlines() if one.strip().startswith(("nft", "sh", "cp", "swtpm"))
    ]
    assert commands[:2] == [["nft", "-f", f"{out}/host/antispoof.nft"], ["sh", f"{out}/host/port.sh"]]
    assert f"dir={out}/tpm/state,mode=0600" in commands[2]
    assert commands[2][-1] == f"3<{out}/tpm/state.key"
    assert commands[3:] == [
        ["cp", "-p", f"{gateway}/setup.json", f"{gateway}/setup.json.before"],
        ["cp", f"{out}/gateway/*", f"{gateway}/"],
    ]
