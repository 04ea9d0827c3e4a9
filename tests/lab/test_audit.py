"""`quotegate audit verify` in a lab whose record was damaged on the gateway's disk: each kind of damage has its name."""

import contextlib
import json
import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from gateway.cli.client import ApiError
from gateway.errors import GatewayError
from tests.lab.conftest import RunningLab, running
from vmhost.lab.defaults import default_spec
from vmhost.lab.provisioning import LabPaths
from vmhost.names import Lab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]
FOUND = 4


def _change(sql: str) -> Callable[[Path, Path], None]:
    def damage(path: Path, _: Path) -> None:
        with sqlite3.connect(path, timeout=20) as database:
            assert database.execute(sql).rowcount > 0
        database.close()

    return damage


def _remove(path: Path, _: Path) -> None:
    for one in path.parent.glob(f"{path.name}*"):
        one.unlink()


def _restore(path: Path, older: Path) -> None:
    _remove(path, older)
    path.write_bytes(older.read_bytes())
    owner = path.parent.stat()
    os.chown(path, owner.st_uid, owner.st_gid)


@pytest.fixture
def lab() -> Iterator[RunningLab]:
    """One of its own: its record is damaged for good."""
    with running(default_spec(Lab(f"a{os.getpid()}"))) as one:
        yield one


@pytest.mark.parametrize(
    ("damage", "codes"),
    [
        (
            _change("UPDATE record SET body = CAST(body || ' ' AS BLOB) WHERE sequence = 3"),
            {"broken-chain"},
        ),
        (_change("DELETE FROM record WHERE sequence > 4"), {"truncated", "contradicts-witness"}),
        (
            _change("UPDATE head SET body = replace(body, '\"sequence\": ', '\"sequence\": 1')"),
            {"foreign-head"},
        ),
        (_restore, {"restored", "contradicts-witness"}),
        (_remove, {"deleted"}),
    ],
    ids=["edited-row", "truncated-tail", "foreign-head", "older-copy", "deleted-file"],
)
def test_damage_on_disk_is_named(
    lab: RunningLab, tmp_path: Path, damage: Callable[[Path, Path], None], codes: set[str]
) -> None:
    path, older = LabPaths(lab.lab).gateway_state / "audit.db", tmp_path / "older.db"
    with sqlite3.connect(path, timeout=20) as database:
        database.execute("VACUUM INTO ?", (str(older),))
    database.close()
    for _ in range(2):
        lab.api.post("/v1/authority/revoke")  # something to record
        time.sleep(1.5)  # heads are signed every second
    answer = lab.json("audit", "verify")
    assert (answer["intact"], answer["witnesses"]) == (True, 3)
    damage(path, older)
    done = lab.cli("audit", "verify", "--json", check=False)
    assert done.returncode == FOUND, done.stderr
    found = {one["code"] for one in json.loads(done.stdout)["findings"]}
    assert codes <= found


def test_a_gateway_whose_record_was_deleted_stops_and_the_next_one_can_not_hide_it(lab: RunningLab) -> None:
    time.sleep(1.5)
    before = lab.api.get("/v1/status")["epoch"]
    _remove(LabPaths(lab.lab).gateway_state / "audit.db", Path())
    with contextlib.suppress(ApiError, GatewayError, OSError):
        lab.api.post("/v1/authority/revoke")
    lab.until(lambda: lab.api.get("/v1/status")["epoch"] != before)
    lab.until(lab.all_trusted)
    done = lab.cli("audit", "verify", "--json", check=False)
    assert done.returncode == FOUND, done.stderr
    assert {"restored", "contradicts-witness"} <= {one["code"] for one in json.loads(done.stdout)["findings"]}
