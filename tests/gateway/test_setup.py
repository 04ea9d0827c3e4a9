"""A setup file that can't be used is named, whatever is wrong with it."""

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.setup import GatewaySetup, SetupError
from gateway.tpmd import main as tpmd

GOOD: dict[str, Any] = {
    "gateway_id": "lab/gateway",
    "platform": "lab",
    "ip": "10.0.0.1",
    "mac": "52:54:00:00:00:01",
    "interface": "eth0",
    "control_port": 7443,
    "beacon_interval_ms": 200,
    "return_within_s": 10,
    "portmap": "/portmap.json",
    "portmap_keys": {},
}


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({**GOOD, "portmap_keys": []}),
        json.dumps({**GOOD, "control_port": 1e999}),
        json.dumps({**GOOD, "ip": 5.5}),
        "[" * 100_000,
        "{",
        "[]",
    ],
)
def test_rejects_a_setup_that_is_malformed(tmp_path: Path, text: str) -> None:
    path = tmp_path / "setup.json"
    path.write_text(text)
    with pytest.raises(SetupError) as raised:
        GatewaySetup.load(path)
    assert raised.value.code == "bad-setup"
    assert str(path) in raised.value.message


def test_tpmd_says_in_one_line_why_it_ends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("sys.argv", ["tpmd", "--setup", str(tmp_path / "none.json")])
    monkeypatch.setattr(tpmd, "forbid_inspection", lambda: None)
    with pytest.raises(SystemExit) as exited:
        tpmd.main()
    assert exited.value.code == f"tpmd: unreadable-setup: {tmp_path / 'none.json'}: No such file or directory"
