"""Make the handshake's test vectors anew from two real TPMs: `python -m tests.authn.make_vectors`.

Randomness is fixed (`stream`), so that anybody can recompute every byte from the recorded quotes.
"""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from authn import labels, messages
from authn.key_schedule import HandshakeKeys, SessionSecrets
from authn.pcr import PcrSelection
from authn.tpm import Tpm
from tests.authn.dialogue import Dialogue, End
from tests.tpms import running_swtpm

FILE = Path(__file__).parent / "vectors" / "handshake.json"


def stream(seed: str) -> Callable[[int], bytes]:
    """Return fixed "randomness": SHA-256(seed ‖ call number), cut to length."""
    calls = iter(range(1000))
    return lambda length: hashlib.sha256(f"{seed} {next(calls)}".encode()).digest()[:length]


def end_json(end: End, tpm: Tpm) -> dict[str, str]:
    identity = tpm.provision()
    return {
        "ek_public": identity.ek_public.hex(),
        "ak_public": identity.ak_public.hex(),
        "ak_name": identity.ak_name.hex(),
        "event_log": end.log.hex(),
    }


def derived() -> dict[str, Any]:
    """Vectors of the parts that need no TPM."""
    shared, th2 = bytes(range(32)), bytes(range(32, 64))
    keys = HandshakeKeys.derive(shared, th2)
    secrets = SessionSecrets.derive(keys.master, bytes(range(64, 96)))
    one = bytes([1]) * 32
    return {
        "key_schedule": {
            "shared": shared.hex(), "th2": th2.hex(), "peer_handshake": keys.peer_secret.hex(),
            "gateway_handshake": keys.gateway_secret.hex(), "peer_finished": keys.peer_finished.hex(),
            "gateway_finished": keys.gateway_finished.hex(), "master": keys.master.hex(),
            "transcript": bytes(range(64, 96)).hex(), "peer_traffic": secrets.peer_traffic.hex(),
            "gateway_traffic": secrets.gateway_traffic.hex(), "exporter": secrets.exporter.hex(), "session_id": secrets.session_id,
        },
        "labels": {
            "gateway_batch(1, 01*32)": labels.gateway_batch(1, one).hex(),
            "gateway_beacon(1, 01*32)": labels.gateway_beacon(1, one).hex(),
            "gateway_beacon_leaf(1, 01*32, 01*32)": labels.gateway_beacon_leaf(1, one, one).hex(),
            "peer_handshake(01*32)": labels.peer_handshake(one).hex(),
            "beacon(01*32, 01*16, 01*32)": labels.beacon(one, one[:16], one).hex(),
            "session(01*32, 01*16, 01*32, 7)": labels.session(one, one[:16], one, 7).hex(),
            "audit_head(1, 01*32, 2)": labels.audit_head(1, one, 2).hex(),
        },
        "message": messages.encode(messages.SessionRequest(1, "db", "tcp/5432")).hex(),
        "selection(4,9,14)": PcrSelection.of([4, 9, 14]).encode().hex(),
    }  # fmt: skip


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        base = Path(directory)
        with (
            running_swtpm(base / "p") as one,
            running_swtpm(base / "g") as two,
            Tpm(one) as peer,
            Tpm(two) as gateway,
        ):
            ends = End.booted(peer, b"agent"), End.booted(gateway, b"gateway")
            dialogue = Dialogue(*ends)
            dialogue.peer.random, dialogue.gateway.random = stream("peer"), stream("gateway")
            quotes: list[list[str]] = []
            for tpm in (peer, gateway):
                tpm.quote = recording(tpm.quote, quotes)  # type: ignore[method-assign]
            peer_session, _ = dialogue.run()
            result = {
                "about": "see docs/protocol.md, Test vectors; bytes in hex",
                "peer": end_json(ends[0], peer), "gateway": end_json(ends[1], gateway),
                "quotes": {"gateway": quotes[0], "peer": quotes[1]},
                "frames": [[frame.type.name, frame.body.hex()] for frame in dialogue.frames],
                "exporter": peer_session.exporter.hex(), "session_id": peer_session.session_id,
                "first_record_of_peer": peer_session.send.seal(messages.encode(messages.SessionRequest(1, "db", "tcp/5432"))).hex(),
                **derived(),
            }  # fmt: skip
    FILE.write_text(json.dumps(result, indent=1) + "\n")


def recording(quote: Callable[..., Any], quotes: list[list[str]]) -> Callable[..., Any]:
    def record(*arguments: Any) -> Any:
        made = quote(*arguments)
        quotes.append([made.attest.hex(), made.signature.hex()])
        return made

    return record


if __name__ == "__main__":
    main()
