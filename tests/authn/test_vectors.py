"""The published vectors: recompute every byte of a recorded handshake."""

import json
from typing import Any

import pytest

from authn import messages
from authn.evidence import Quote
from authn.public_area import AttestationKey
from tests.authn.dialogue import Dialogue, End
from tests.authn.make_vectors import FILE, derived, stream

VECTORS: dict[str, Any] = json.loads(FILE.read_text())


class RecordedTpm:
    """Plays a recorded quote back, once."""

    def __init__(self, quote: list[str]) -> None:
        self._quote = Quote(bytes.fromhex(quote[0]), bytes.fromhex(quote[1]))

    def quote(self, _selection: object, _data: object) -> Quote:
        return self._quote


def end(name: str) -> End:
    data = VECTORS[name]
    key = AttestationKey.from_public(bytes.fromhex(data["ak_public"]), bytes.fromhex(data["ek_public"]))
    assert key.name.hex() == data["ak_name"]
    return End(RecordedTpm(VECTORS["quotes"][name]), key, bytes.fromhex(data["event_log"]))  # type: ignore[arg-type]


def test_every_frame_of_the_handshake_is_the_recorded_one() -> None:
    dialogue = Dialogue(end("peer"), end("gateway"))
    dialogue.peer.random, dialogue.gateway.random = stream("peer"), stream("gateway")
    session, _ = dialogue.run()
    assert [[frame.type.name, frame.body.hex()] for frame in dialogue.frames] == VECTORS["frames"]
    assert (session.exporter.hex(), session.session_id) == (VECTORS["exporter"], VECTORS["session_id"])
    record = session.send.seal(messages.encode(messages.SessionRequest(1, "db", "tcp/5432")))
    assert record.hex() == VECTORS["first_record_of_peer"]


@pytest.mark.parametrize("name", list(derived()))
def test_derived_values_are_the_recorded_ones(name: str) -> None:
    assert derived()[name] == VECTORS[name]
