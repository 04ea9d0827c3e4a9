"""What both ends of the handshake share: commands, results and the transcript.

SIGMA with TPM2_Quote as the signature, both ways (docs/protocol.md). The machines do no I/O:
events go in by method calls, commands come out as lists.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from authn.channel import Channel
from authn.errors import AttestationError
from authn.evidence import VerifiedQuote
from authn.failure import AttestationFailure
from authn.fields import FrameType
from authn.handshake_messages import SessionParameters
from authn.ima import MeasuredFiles
from authn.pcr import PcrSelection


@dataclass(frozen=True, slots=True)
class SendFrame:
    """Send this frame to the other end."""

    type: FrameType
    body: bytes


@dataclass(frozen=True, slots=True)
class WantQuote:
    """Quote this with the own TPM, then call `quote`."""

    selection: PcrSelection
    qualifying_data: bytes


@dataclass(frozen=True, slots=True)
class WantBatchQuote:
    """Quote this leaf in a batch, then call `batch_quote`."""

    leaf: bytes


@dataclass(frozen=True, slots=True)
class WantPeer:
    """Look this peer up, then call `peer_found`. Nothing of it is proved yet."""

    untrusted_peer_id: str
    untrusted_ak_name: bytes
    gateway_profile: str


@dataclass(frozen=True, slots=True)
class Established:
    """The session stands; both ends are verified."""

    session: "EstablishedSession"


Command = SendFrame | WantQuote | WantBatchQuote | WantPeer | Established


@dataclass(frozen=True, slots=True)
class EstablishedSession:
    """A mutually attested session. `verified`, `pcr_values` and `files` are the other end's."""

    session_id: str
    peer_id: str
    epoch: bytes
    exporter: bytes
    send: Channel
    receive: Channel
    verified: VerifiedQuote
    pcr_values: Mapping[int, bytes]
    parameters: SessionParameters
    files: MeasuredFiles | None = None


def exchange(private: X25519PrivateKey, untrusted_share: bytes) -> bytes:
    """Return the X25519 secret; raises AttestationError for a share of small order (RFC 7748, 6.1)."""
    try:
        return private.exchange(X25519PublicKey.from_public_bytes(untrusted_share))
    except ValueError:
        raise AttestationError(
            AttestationFailure.MALFORMED_MESSAGE, "the key share is no good point"
        ) from None


def out_of_order(got: FrameType, wanted: str) -> AttestationError:
    """Build the error for a frame that does not belong here."""
    return AttestationError(AttestationFailure.MALFORMED_MESSAGE, f"{got.name} came where {wanted} was due")
