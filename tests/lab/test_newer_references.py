"""A gateway that is newer than what its peers were provisioned for brings the reference values they judge it by."""

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from authn.reference import ReferenceSet
from authn.signing import SignedDocument
from tests.lab.conftest import RunningLab
from vmhost.lab.provisioning import LabPaths, load_administrator_key
from vmhost.monitor.client import ask

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]
LATER = time.time() + 3600


def edit(path: Path, **fields: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture(scope="module")
def updated(lab: RunningLab) -> Iterator[RunningLab]:
    """The peers know no value of this gateway; the gateway has the administrator's signed set of them."""
    paths, key = LabPaths(lab.lab), load_administrator_key(lab.lab)
    document = json.loads((paths.shared / "references.json").read_bytes())["document"]
    known = ReferenceSet.from_document(SignedDocument("reference-set", 1, LATER, document["payload"], ""))
    stale, own = paths.shared / "stale.json", paths.shared / "own.json"
    stale.write_bytes(ReferenceSet(1, LATER, {}).sign(key))
    own.write_bytes(ReferenceSet(2, LATER, known.values).sign(key))
    for peer in lab.spec.peers:
        edit(paths.peer_setup(peer.peer), references=[str(stale)])
        ask(lab.lab, "restart_peer", peer=peer.peer)
    lab.until(lambda: b"unknown-reference" in lab.exec("web", "quotegate-agent", "status").stdout)
    edit(paths.gateway_setup, own_references=str(own))
    ask(lab.lab, "restart_gateway")
    yield lab


def test_peers_take_it_up_and_trust_the_gateway(updated: RunningLab) -> None:
    updated.until(updated.all_trusted)


def test_a_foreign_peer_takes_it_up(updated: RunningLab) -> None:
    with updated.without_agent("web"):
        said = updated.run("web", "tests.foreign.peer", updated.setup("web"), "--beacons", 6)
    assert said[0]["event"] == "attested"
