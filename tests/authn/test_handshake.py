"""The handshake as dialogues over two real TPMs."""

import dataclasses
from collections.abc import Iterator

import pytest

from authn import messages
from authn.channel import Channel
from authn.errors import AttestationError
from authn.evidence import Counters
from authn.failure import AttestationFailure
from authn.fields import FrameType
from authn.handshake import SendFrame
from authn.handshake_gateway import PeerFacts
from authn.handshake_messages import M1, M2, M3, M4, BatchQuote, SessionParameters
from authn.profile import Profile
from authn.tpm import Tpm
from tests.authn.dialogue import PROFILE, Dialogue, End, accept, altering, batch
from tests.authn.refusals import refused
from tests.tpms import running_swtpm

pytestmark = pytest.mark.tpm
F = AttestationFailure


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[End, End]]:
    peer_dir, gateway_dir = tmp_path_factory.mktemp("peer"), tmp_path_factory.mktemp("gateway")
    with (
        running_swtpm(peer_dir) as one,
        running_swtpm(gateway_dir) as two,
        Tpm(one) as peer,
        Tpm(two) as gateway,
    ):
        yield End.booted(peer, b"agent"), End.booted(gateway, b"gateway")


def test_both_ends_agree(ends: tuple[End, End]) -> None:
    peer, gateway = Dialogue(*ends).run()
    assert (peer.session_id, peer.exporter) == (gateway.session_id, gateway.exporter)
    request = messages.SessionRequest(1, "db", "tcp/5432")
    assert messages.decode(gateway.receive.open(peer.send.seal(messages.encode(request)))) == request
    assert peer.parameters == gateway.parameters
    assert gateway.pcr_values == ends[0].tpm.read_pcrs(PROFILE.selection)


def test_two_sessions_share_nothing(ends: tuple[End, End]) -> None:
    assert Dialogue(*ends).run()[0].exporter != Dialogue(*ends).run()[0].exporter


@pytest.mark.parametrize("kind", [FrameType.M1, FrameType.M2, FrameType.M3, FrameType.M4])
def test_rejects_a_flipped_bit_anywhere(ends: tuple[End, End], kind: FrameType) -> None:
    plain = Dialogue(*ends)
    plain.run()
    length = next(len(frame.body) for frame in plain.frames if frame.type is kind)
    for at in range(0, length, max(1, length // 25)):
        flip = altering(kind, lambda body, at=at: body[:at] + bytes([body[at] ^ 1]) + body[at + 1 :])
        with pytest.raises(AttestationError):
            Dialogue(*ends, alter=flip).run()


@pytest.mark.parametrize("kind", [FrameType.M1, FrameType.M2, FrameType.M3, FrameType.M4])
def test_rejects_truncation_and_trailing_bytes(ends: tuple[End, End], kind: FrameType) -> None:
    for change in (lambda body: body[:-1], lambda body: body + b"\0", lambda body: b""):
        with pytest.raises(AttestationError):
            Dialogue(*ends, alter=altering(kind, change)).run()


def test_rejects_replayed_m3(ends: tuple[End, End]) -> None:
    first = Dialogue(*ends)
    first.run()
    old = next(frame.body for frame in first.frames if frame.type is FrameType.M3)
    with refused(F.BAD_RECORD):
        Dialogue(*ends, alter=altering(FrameType.M3, lambda _: old)).run()


def test_rejects_replayed_m2(ends: tuple[End, End]) -> None:
    first = Dialogue(*ends)
    first.run()
    old = next(frame.body for frame in first.frames if frame.type is FrameType.M2)
    with refused(F.REPLAYED_NONCE):
        Dialogue(*ends, alter=altering(FrameType.M2, lambda _: old)).run()


def test_rejects_reflection(ends: tuple[End, End]) -> None:
    dialogue = Dialogue(*ends)
    m1 = dialogue.peer.start()[0]
    assert isinstance(m1, SendFrame)
    with refused(F.MALFORMED_MESSAGE):
        dialogue.peer.receive(FrameType.M1, m1.body)
    with refused(F.MALFORMED_MESSAGE):
        dialogue.peer.receive(FrameType.M3, m1.body)


def test_rejects_frames_out_of_order(ends: tuple[End, End]) -> None:
    for kind in (FrameType.M2, FrameType.M3, FrameType.M4, FrameType.RECORD):
        with refused(F.MALFORMED_MESSAGE):
            Dialogue(*ends).gateway.receive(kind, b"")


def test_rejects_unwanted_gateway_profile(ends: tuple[End, End]) -> None:
    def downgrade(body: bytes) -> bytes:
        return dataclasses.replace(M1.decode(body), gateway_profile="weaker").encode()

    with refused(F.UNSUPPORTED_VERSION):
        Dialogue(*ends, alter=altering(FrameType.M1, downgrade)).run()


@pytest.mark.parametrize(("index", "size"), [(1, 1), (0, 2), (1, 2), (0, 1025)])
def test_rejects_foreign_merkle_index_or_size(ends: tuple[End, End], index: int, size: int) -> None:
    def foreign(body: bytes) -> bytes:
        m2 = M2.decode(body)
        return M2(m2.core, BatchQuote(m2.proof.quote, index, size, m2.proof.path)).encode()

    with pytest.raises(AttestationError) as caught:
        Dialogue(*ends, alter=altering(FrameType.M2, foreign)).run()
    assert caught.value.failure in (F.WRONG_BATCH_PROOF, F.REPLAYED_NONCE, F.MALFORMED_MESSAGE)


def test_rejects_a_gateway_with_another_key(ends: tuple[End, End]) -> None:
    peer, gateway = ends
    dialogue = Dialogue(peer, gateway)
    dialogue.gateway_end = End(
        peer.tpm, gateway.key, gateway.log
    )  # signs with a key that is not the gateway's
    with refused(F.WRONG_AK):
        dialogue.run()


def test_rejects_a_peer_with_another_key(ends: tuple[End, End]) -> None:
    facts = PeerFacts("lab/web", ends[1].key, PROFILE, None, accept)
    dialogue = Dialogue(*ends, facts=facts)
    with refused(F.WRONG_AK):
        dialogue.run()
    assert not dialogue.gateway.signed_by_peer


def test_rejects_a_log_that_is_not_the_tpms(ends: tuple[End, End]) -> None:
    peer = End(ends[0].tpm, ends[0].key, ends[1].log)
    dialogue = Dialogue(peer, ends[1])
    with refused(F.PCR_MISMATCH):
        dialogue.run()
    assert dialogue.gateway.signed_by_peer


def test_rejects_counters_gone_back(ends: tuple[End, End]) -> None:
    facts = PeerFacts("lab/web", ends[0].key, PROFILE, Counters(0, 1_000_000, 0, True), accept)
    with refused(F.RESET_COUNT_REGRESSION):
        Dialogue(*ends, facts=facts).run()


def _deny(_measured: object) -> None:
    raise AttestationError(F.REFERENCE_MISMATCH, "not what was built")


def test_rejects_a_peer_whose_references_do_not_fit(ends: tuple[End, End]) -> None:
    dialogue = Dialogue(*ends, facts=PeerFacts("lab/web", ends[0].key, PROFILE, None, _deny))
    with refused(F.REFERENCE_MISMATCH):
        dialogue.run()
    assert dialogue.gateway.signed_by_peer


def _with_config(dialogue: Dialogue, **changes: object) -> Dialogue:
    dialogue.peer.config = dataclasses.replace(dialogue.peer.config, **changes)
    return dialogue


def test_rejects_a_gateway_whose_references_do_not_fit(ends: tuple[End, End]) -> None:
    with refused(F.REFERENCE_MISMATCH):
        _with_config(Dialogue(*ends), check_gateway=_deny).run()


def test_rejects_a_gateway_whose_counters_went_back(ends: tuple[End, End]) -> None:
    with refused(F.RESET_COUNT_REGRESSION):
        _with_config(Dialogue(*ends), gateway_previous=Counters(0, 1_000_000, 0, True)).run()


def test_rejects_another_gateways_name(ends: tuple[End, End]) -> None:
    with refused(F.WRONG_GATEWAY):
        _with_config(Dialogue(*ends), gateway_id="gateway-2").run()


def test_rejects_a_downgraded_selection(ends: tuple[End, End]) -> None:
    """A gateway that asks for fewer PCRs than the peer was set up for gets nothing."""
    weaker = dataclasses.replace(
        PeerFacts("lab/web", ends[0].key, PROFILE, None, accept), profile=Profile.of("lab", {4: "code"})
    )
    dialogue = Dialogue(*ends, facts=weaker)
    with refused(F.RELABELLED_PCR) as error:
        dialogue.run()
    assert "was not set up for" in error.value.message


@pytest.mark.parametrize(
    "peer_id",
    [
        "lab/web\x1b[2J", "lab/we\nb", "lab/we b", "lab/\x9bweb", "lab/\u202eweb",
        "web", "lab/", "/web", "lab/web/x", "",
    ],
)  # fmt: skip
def test_rejects_a_peer_id_that_is_no_printable_words(peer_id: str) -> None:
    m1 = M1("lab/web", b"n", bytes(32), bytes(32), "lab")
    assert M1.decode(m1.encode()) == m1
    assert M1.decode(dataclasses.replace(m1, peer_id="実験室/wéb").encode()).peer_id == "実験室/wéb"
    with refused(F.MALFORMED_MESSAGE):
        M1.decode(dataclasses.replace(m1, peer_id=peer_id).encode())


@pytest.mark.parametrize("prefix", [b"\0\0\1", b"\2\0\1", b"\1\0\0", b"\1\0\2"])
def test_rejects_unsupported_version(ends: tuple[End, End], prefix: bytes) -> None:
    with refused(F.UNSUPPORTED_VERSION):
        Dialogue(*ends, alter=altering(FrameType.M1, lambda body: prefix + body[3:])).run()


def test_rejects_wrong_mac_of_the_peer(ends: tuple[End, End]) -> None:
    """Whoever knows the handshake's keys but not the peer's finished key."""
    dialogue = Dialogue(*ends)

    def forge(body: bytes) -> bytes:
        secret = dialogue.peer._keys.peer_secret
        m3 = M3.decode(Channel(secret).open(body))
        return Channel(secret).seal(dataclasses.replace(m3, mac=bytes(32)).encode())

    dialogue.alter = altering(FrameType.M3, forge)
    with refused(F.WRONG_MAC):
        dialogue.run()
    assert not dialogue.gateway.signed_by_peer


def test_rejects_wrong_mac_of_the_gateway(ends: tuple[End, End]) -> None:
    """Also over other parameters than those that are sent."""
    dialogue = Dialogue(*ends)

    def forge(body: bytes) -> bytes:
        secret = dialogue.peer._keys.gateway_secret
        m4 = M4.decode(Channel(secret).open(body))
        slower = dataclasses.replace(SessionParameters.decode(m4.parameters), beacon_interval_ms=60_000)
        return Channel(secret).seal(dataclasses.replace(m4, parameters=slower.encode()).encode())

    dialogue.alter = altering(FrameType.M4, forge)
    with refused(F.WRONG_MAC):
        dialogue.run()


def test_one_quote_serves_a_batch(ends: tuple[End, End]) -> None:
    leaves = [bytes([number]) * 32 for number in range(5)]
    proof = batch(ends[1].tpm, leaves, 3)
    assert (proof.index, proof.size) == (3, 5)
