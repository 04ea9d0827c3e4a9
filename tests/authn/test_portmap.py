"""The map of places: well-formed and unambiguous, or refused."""

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.portmap import KIND, PortEntry, PortMap
from authn.signing import DocumentError, key_id, verify_document

KEY = Ed25519PrivateKey.generate()


PUBLIC = KEY.public_key().public_bytes_raw()


KEYS = {key_id(PUBLIC): PUBLIC}


def _entry(**changes: object) -> PortEntry:
    data = {"peer": "web", "port": "p1", "mac": "52:54:00:00:00:01", "ip": "10.0.0.2", "uuid": "u1"}
    return PortEntry.from_json({**data, **changes})


def test_a_port_map_survives_signing() -> None:
    portmap = PortMap(1, (_entry(),))
    document = verify_document(portmap.sign(100.0, KEY), KIND, KEYS, 1.0)
    assert PortMap.from_document(document) == portmap


@pytest.mark.parametrize(
    "changes",
    [
        {"peer": "We b"},
        {"mac": "01:00:5e:00:00:01"},
        {"mac": "zz"},
        {"ip": "10.0.0.300"},
        {"peer": 'a"; drop'},
    ],
)
def test_rejects_a_malformed_place(changes: dict[str, str]) -> None:
    with pytest.raises(DocumentError):
        _entry(**changes)


@pytest.mark.parametrize("what", ["peer", "port", "mac", "ip", "uuid"])
def test_rejects_an_ambiguous_port_map(what: str) -> None:
    other = {"peer": "db", "port": "p2", "mac": "52:54:00:00:00:02", "ip": "10.0.0.3", "uuid": "u2"}
    other.pop(what)
    with pytest.raises(DocumentError, match="more than once"):
        PortMap(1, (_entry(), _entry(**other)))
