"""A peer's setup file that can't be used: what the operator is told."""

import json
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.reference import ReferenceSet
from authn.signing import key_id
from gateway.agent.setup import AgentSetup
from gateway.setup import SetupError

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()


def refusal(tmp_path: Path, **setup: object) -> str:
    given = {"reference_keys": {key_id(PUBLIC): PUBLIC.hex()}, "references": [], **setup}
    (tmp_path / "setup.json").write_text(json.dumps(given))
    with pytest.raises(SetupError) as raised:
        AgentSetup.load(tmp_path / "setup.json")
    assert raised.value.code == "bad-setup"
    return raised.value.message


def test_rejects_reference_set_that_has_expired(tmp_path: Path) -> None:
    own = tmp_path / "references.json"
    own.write_bytes(ReferenceSet(1, time.time() - 60, {}).sign(KEY))
    message = refusal(tmp_path, references=[str(own)])
    assert f"{own}: checked the gateway's reference values: expected a set in force" in message
    assert "expired 60 s ago; put the newest set there" in message


def test_rejects_file_that_is_not_there(tmp_path: Path) -> None:
    message = refusal(tmp_path, references=[str(tmp_path / "nowhere.json")])
    assert f"reading {tmp_path / 'nowhere.json'}, which it names: expected a file" in message
    assert "got: No such file or directory; put there" in message


@pytest.mark.parametrize("keys", [[], "k", {"a": 1}, None])
def test_rejects_field_of_another_kind(tmp_path: Path, keys: object) -> None:
    assert "is missing or malformed" in refusal(tmp_path, reference_keys=keys)
