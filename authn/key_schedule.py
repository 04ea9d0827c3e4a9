"""Derive all keys of a session from one X25519 secret and the transcript (docs/protocol.md, "Key schedule").

Shaped after TLS 1.3 (RFC 8446 section 7.1) over HKDF-SHA256 (RFC 5869).
"""

import hashlib
import hmac
from dataclasses import dataclass

from authn.fields import Writer

HASH_SIZE = 32
KEY_SIZE, IV_SIZE = 32, 12


def digest(*parts: bytes) -> bytes:
    """Hash length-prefixed parts: no part can run into the next."""
    writer = Writer()
    for part in parts:
        writer.blob(part)
    return hashlib.sha256(writer.finish()).digest()


def extract(salt: bytes, secret: bytes) -> bytes:
    """HKDF-Extract."""
    return hmac.digest(salt, secret, "sha256")


def expand_label(secret: bytes, label: str, context: bytes, length: int = HASH_SIZE) -> bytes:
    """HKDF-Expand with a labelled info, at most 255 blocks."""
    info = Writer().u16(length).text("quotegate/1 " + label).blob(context).finish()
    output, block, index = b"", b"", 1
    while len(output) < length:
        block = hmac.digest(secret, block + info + bytes([index]), "sha256")
        output, index = output + block, index + 1
    return output[:length]


@dataclass(frozen=True, slots=True)
class DirectionKeys:
    """The AEAD key and nonce base of one direction."""

    key: bytes
    iv: bytes

    @classmethod
    def derive(cls, secret: bytes) -> "DirectionKeys":
        """Expand a traffic secret."""
        return cls(expand_label(secret, "key", b"", KEY_SIZE), expand_label(secret, "iv", b"", IV_SIZE))


@dataclass(frozen=True, slots=True)
class HandshakeKeys:
    """What is derived once m2 is known: keys for m3 and m4, finished keys, and the way on."""

    peer_secret: bytes
    gateway_secret: bytes
    peer_finished: bytes
    gateway_finished: bytes
    master: bytes

    @classmethod
    def derive(cls, shared: bytes, th2: bytes) -> "HandshakeKeys":
        """Derive from the X25519 shared secret and th2."""
        handshake = extract(bytes(HASH_SIZE), shared)
        peer = expand_label(handshake, "peer handshake", th2)
        gateway = expand_label(handshake, "gateway handshake", th2)
        return cls(
            peer_secret=peer,
            gateway_secret=gateway,
            peer_finished=expand_label(peer, "finished", b""),
            gateway_finished=expand_label(gateway, "finished", b""),
            master=extract(expand_label(handshake, "derived", b""), bytes(HASH_SIZE)),
        )


@dataclass(frozen=True, slots=True)
class SessionSecrets:
    """What both ends share after m4."""

    peer_traffic: bytes
    gateway_traffic: bytes
    exporter: bytes
    session_id: str

    @classmethod
    def derive(cls, master: bytes, transcript: bytes) -> "SessionSecrets":
        """Derive from the master secret and the hash over th4, MAC_G and the parameters."""
        return cls(
            peer_traffic=expand_label(master, "peer traffic", transcript),
            gateway_traffic=expand_label(master, "gateway traffic", transcript),
            exporter=expand_label(master, "exporter", transcript),
            session_id=expand_label(master, "session id", transcript, 16).hex(),
        )


def finished_mac(finished_key: bytes, role: str, *parts: bytes) -> bytes:
    """Compute MAC_P or MAC_G: the role stops reflection."""
    writer = Writer().text(role)
    for part in parts:
        writer.blob(part)
    return hmac.digest(finished_key, writer.finish(), "sha256")
