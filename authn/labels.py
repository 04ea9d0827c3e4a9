"""Build the data that quotes sign: one label per purpose, so that no quote serves for another.

Each function returns SHA-256 over the label and length-prefixed fields (docs/protocol.md, "Labels").
"""

import hashlib

from authn.fields import Writer

PREFIX = b"quotegate/1 "


def _digest(label: bytes, fields: Writer) -> bytes:
    return hashlib.sha256(Writer().blob(PREFIX + label).raw(fields.finish()).finish()).digest()


def gateway_batch(size: int, root: bytes) -> bytes:
    """Label the gateway's quote over a batch of handshakes."""
    return _digest(b"gateway-batch", Writer().u32(size).blob(root))


def gateway_beacon(size: int, root: bytes) -> bytes:
    """Label the gateway's quote over a batch of beacons."""
    return _digest(b"gateway-beacon", Writer().u32(size).blob(root))


def gateway_beacon_leaf(number: int, challenge: bytes, exporter: bytes) -> bytes:
    """Build one peer's leaf of a beacon batch: it contains the challenge this peer chose itself."""
    return _digest(b"gateway-beacon-leaf", Writer().u64(number).blob(challenge).blob(exporter))


def peer_handshake(th2: bytes) -> bytes:
    """Label the peer's handshake quote."""
    return _digest(b"peer", Writer().blob(th2))


def beacon(nonce: bytes, epoch: bytes, exporter: bytes) -> bytes:
    """Label the peer's answer to a beacon."""
    return _digest(b"beacon", Writer().blob(nonce).blob(epoch).blob(exporter))


def session(nonce: bytes, epoch: bytes, exporter: bytes, request_id: int) -> bytes:
    """Label the peer's proof for one session request."""
    return _digest(b"session", Writer().blob(nonce).blob(epoch).blob(exporter).u64(request_id))


def audit_head(sequence: int, head: bytes, counter: int) -> bytes:
    """Label the gateway's signature of its audit chain's head."""
    return _digest(b"audit-head", Writer().u64(sequence).blob(head).u64(counter))
