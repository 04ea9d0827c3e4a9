"""What an agent does with what a gateway sends it: the reference set before m2, refusals, ends of enrollments, and nothing at all."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from unittest.mock import AsyncMock, Mock

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn import messages
from authn.errors import AttestationError
from authn.evidence import Quote
from authn.failure import AttestationFailure
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


def enrolled(*frames: bytes) -> str:
    """Enroll with a gateway that answers with these frames; return the status."""

    async def story() -> str:
        reader = asyncio.StreamReader()
        reader.feed_data(b"".join(frames))
        setup = Mock(ima_list=None, peer_id="lab/web")
        setup.ek_certificate.read_bytes.return_value = b""
        worker = Mock(run=AsyncMock(return_value=b"e3"))
        return await Conversation(setup, worker, reader, Mock()).enroll(Mock(ek_public=b"", ak_public=b""))

    return asyncio.run(story())


E2 = encode_frame(FrameType.ENROLL_CHALLENGE, b"e2")


@pytest.mark.parametrize("status", ["approved", "pending"])
def test_an_enrollment_ends_in_one_of_two_words(status: str) -> None:
    assert enrolled(E2, encode_frame(FrameType.ENROLL_RESULT, status.encode())) == status


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (FrameType.ENROLL_RESULT, b"approved\x1b[2J"),
        (FrameType.ENROLL_RESULT, b""),
        (FrameType.ENROLL_RESULT, b"x" * 4096),
        (FrameType.M4, b"approved"),
    ],
    ids=["terminal", "empty", "long", "other-frame"],
)
def test_rejects_another_end_of_an_enrollment(kind: FrameType, body: bytes) -> None:
    with pytest.raises(AttestationError, match="came where e4, approved or pending, was due") as raised:
        enrolled(E2, encode_frame(kind, body))
    assert raised.value.failure is AttestationFailure.MALFORMED_MESSAGE


@asynccontextmanager
async def unread(path: Path) -> AsyncIterator[Conversation]:
    """A conversation with a gateway that takes the connection and reads nothing."""

    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    await asyncio.start_unix_server(silent, path)
    reader, writer = await asyncio.open_unix_connection(path)
    async with asyncio.timeout(10):
        yield Conversation(Mock(ima_list=None), Mock(), reader, writer)


def test_rejects_a_gateway_that_asks_and_does_not_read(tmp_path: Path) -> None:
    async def story() -> int:
        session, answer = Mock(), messages.SessionProof(1, Quote(b"", b""), bytes(1 << 19))
        session.send.seal = lambda record: record
        async with unread(tmp_path / "gateway") as conversation:
            for _ in range(100):
                conversation.send_message(session, answer)
            with pytest.raises(ConnectionAbortedError, match="does not read what it asks for"):
                await conversation.receive()
            return conversation.writer.transport.get_write_buffer_size()

    assert asyncio.run(story()) == 0


def test_rejects_a_gateway_that_holds_a_connection_which_is_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.agent.conversation.PARTING_S", 0.1)

    async def story() -> tuple[bool, int]:
        async with unread(tmp_path / "gateway") as conversation:
            conversation.send(FrameType.M3, bytes(4 << 20))
            conversation.hang_up()
            held = conversation.writer.transport.get_write_buffer_size() > 0
            await asyncio.sleep(0.5)
            return held, conversation.writer.transport.get_write_buffer_size()

    assert asyncio.run(story()) == (True, 0)
