"""What an agent does with the reference set that comes before m2."""

import asyncio
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.errors import AttestationError
from authn.fields import FrameType, encode_frame
from authn.pcr import PcrSelection
from authn.reference import ReferenceSet
from authn.reference_shelf import ReferenceShelf
from authn.signing import key_id
from gateway.agent.conversation import Conversation, Refused

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(one * 32) for one in (b"k", b"o"))
PUBLIC = KEY.public_key().public_bytes_raw()
REFUSAL = encode_frame(FrameType.ALERT, b"unknown-peer")


def brought(*documents: bytes, tmp_path: Path) -> tuple[ReferenceShelf, type[Exception]]:
    """Hold a conversation in which the gateway brings sets and then refuses; return what the agent kept, and the end."""
    shelf = ReferenceShelf([ReferenceSet(1, time.time() + 60, {})], {key_id(PUBLIC): PUBLIC})
    (tmp_path / "log").write_bytes(b"")
    setup = Mock(references=shelf, event_log=tmp_path / "log", peer_id="lab/web", ima_list=None)
    setup.profile.selection, setup.gateway_profile.id = PcrSelection.of([4]), "lab"

    async def story() -> type[Exception]:
        reader = asyncio.StreamReader()
        reader.feed_data(b"".join(encode_frame(FrameType.REFERENCES, one) for one in documents) + REFUSAL)
        conversation = Conversation(setup, Mock(), reader, Mock())
        with pytest.raises((Refused, AttestationError)) as raised:
            await conversation.handshake(Mock(ak_name=b"n" * 34), None)
        return raised.type

    return shelf, asyncio.run(story())


def test_a_good_set_is_kept(tmp_path: Path) -> None:
    newer = ReferenceSet(2, time.time() + 60, {"gateway-pcr11": ()})
    shelf, end = brought(newer.sign(KEY), tmp_path=tmp_path)
    assert newer in shelf.sets
    assert end is Refused


@pytest.mark.parametrize("key", [OTHER, None], ids=["foreign-key", "noise"])
def test_rejects_bad_set_and_goes_on_with_those_it_has(
    tmp_path: Path, key: Ed25519PrivateKey | None, caplog: pytest.LogCaptureFixture
) -> None:
    document = ReferenceSet(2, time.time() + 60, {}).sign(key) if key else b"noise"
    shelf, end = brought(document, tmp_path=tmp_path)
    assert [one.version for one in shelf.sets] == [1]
    assert end is Refused
    assert "refused" in caplog.text


def test_rejects_second_set_in_one_handshake(tmp_path: Path) -> None:
    documents = [ReferenceSet(version, time.time() + 60, {}).sign(KEY) for version in (2, 3)]
    shelf, end = brought(*documents, tmp_path=tmp_path)
    assert [one.version for one in shelf.sets] == [1, 2]
    assert end is AttestationError


def test_rejects_an_alert_that_acts_on_the_terminal() -> None:
    async def story() -> str:
        reader = asyncio.StreamReader()
        reader.feed_data(encode_frame(FrameType.ALERT, b"unknown-peer\x1b[2J\n\xff"))
        with pytest.raises(Refused) as raised:
            await Conversation(Mock(ima_list=None), Mock(), reader, Mock()).receive()
        return raised.value.code

    code = asyncio.run(story())
    assert code.startswith("unknown-peer?[2J?")
    assert code.isprintable()
