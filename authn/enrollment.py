"""Enroll a TPM: prove that AK and EK live in the same chip (docs/protocol.md, "Enrollment"). Sans I/O.

P→G e1: peer id, EK certificate, EK public area, AK public area
G→P e2: a credential that only that TPM can open
P→G e3: HMAC-SHA256(secret, SHA-256(e1 ‖ e2)); the secret itself is never sent back (CVE-2023-38201)

One try per connection. Who approves the result, and where it is pinned, is the caller's business.
"""

import datetime as dt
import hashlib
import hmac
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from authn.credential import make_credential
from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.fields import Reader, Writer
from authn.public_area import AttestationKey

if TYPE_CHECKING:
    from cryptography import x509

SECRET_SIZE = 32
MOST_ID_OBJECT, MOST_SECRET = 132, 512  # bytes that a TPM takes (Part 2, 12.4.3 and 11.4.33)


@dataclass(frozen=True, slots=True)
class EnrolledIdentity:
    """A TPM that has proved itself: what is pinned from now on."""

    peer_id: str
    ek_fingerprint: str
    ek_public: bytes
    ak_public: bytes
    ek_certificate: bytes
    uuid: str


@dataclass(frozen=True, slots=True)
class _Hello:
    peer_id: str
    certificate: bytes
    ek_public: bytes
    ak_public: bytes

    @classmethod
    def parse(cls, untrusted: bytes) -> "_Hello":
        cursor = Reader(untrusted)
        hello = cls(
            cursor.peer_id(), cursor.blob(at_most=8192), cursor.blob(at_most=1024), cursor.blob(at_most=1024)
        )
        cursor.finish()
        return hello


class EnrollmentVerifier:
    """The gateway's end, for one connection."""

    def __init__(
        self, roots: "Sequence[x509.Certificate]", now: dt.datetime, random: Callable[[int], bytes]
    ) -> None:
        self._roots, self._now, self._random = roots, now, random
        self._expected: bytes | None = None
        self._identity: EnrolledIdentity | None = None

    def receive_hello(self, untrusted_e1: bytes) -> bytes:
        """Check certificate and keys and return e2; raises AttestationError."""
        # X.509 is a sixth of what agent and gateway load, and most starts enroll nobody
        from authn.ek_certificate import verify_ek_chain

        hello = _Hello.parse(untrusted_e1)
        endorsement = verify_ek_chain(hello.certificate, hello.ek_public, self._roots, self._now)
        key = AttestationKey.from_public(hello.ak_public, hello.ek_public)
        secret = self._random(SECRET_SIZE)
        credential = make_credential(hello.ek_public, key.name, secret)
        e2 = Writer().blob(credential.id_object).blob(credential.encrypted_secret).finish()
        self._expected = _proof(secret, untrusted_e1, e2)
        self._identity = EnrolledIdentity(
            hello.peer_id,
            endorsement.fingerprint,
            hello.ek_public,
            hello.ak_public,
            hello.certificate,
            endorsement.uuid,
        )
        return e2

    def receive_proof(self, untrusted_e3: bytes) -> EnrolledIdentity:
        """Check the one proof and return who it is; raises AttestationError `wrong-credential`."""
        expected, self._expected = self._expected, None
        cursor = Reader(untrusted_e3)
        proof = cursor.blob(exactly=SECRET_SIZE)
        cursor.finish()
        if expected is None or self._identity is None or not hmac.compare_digest(proof, expected):
            raise AttestationError(
                AttestationFailure.WRONG_CREDENTIAL, "the TPM could not open the credential"
            )
        return self._identity


class EnrollmentClient:
    """The peer's end."""

    def __init__(self, peer_id: str, ek_certificate: bytes, ek_public: bytes, ak_public: bytes) -> None:
        self._e1 = Writer().text(peer_id).blob(ek_certificate).blob(ek_public).blob(ak_public).finish()

    def hello(self) -> bytes:
        """Return e1."""
        return self._e1

    def proof(self, e2: bytes, activate: Callable[[bytes, bytes], bytes]) -> bytes:
        """Open the credential with the TPM (`activate(id_object, encrypted_secret)`) and return e3."""
        cursor = Reader(e2)
        id_object, encrypted = cursor.blob(at_most=MOST_ID_OBJECT), cursor.blob(at_most=MOST_SECRET)
        cursor.finish()
        return Writer().blob(_proof(activate(id_object, encrypted), self._e1, e2)).finish()


def _proof(secret: bytes, e1: bytes, e2: bytes) -> bytes:
    return hmac.digest(secret, hashlib.sha256(Writer().blob(e1).blob(e2).finish()).digest(), "sha256")
