"""Seal and open records: ChaCha20-Poly1305 with counters and rekeying (docs/protocol.md, "Records")."""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.key_schedule import IV_SIZE, DirectionKeys, expand_label

REKEY_EVERY = 1 << 20


class Channel:
    """One direction of a session. The record's number is never sent: both ends count.

    After 2^20 records the secret is ratcheted forward (label "rekey") and the count starts anew.
    """

    def __init__(self, secret: bytes, rekey_every: int = REKEY_EVERY) -> None:
        self._secret, self._rekey_every = secret, rekey_every
        self._dead = False
        self._load()

    def seal(self, plain: bytes) -> bytes:
        """Encrypt one record."""
        self._check_alive()
        return self._aead.encrypt(self._next_nonce(), plain, None)

    def open(self, record: bytes) -> bytes:
        """Decrypt one record; raises AttestationError `bad-record`, after which the channel is dead."""
        self._check_alive()
        try:
            return self._aead.decrypt(self._next_nonce(), record, None)
        except InvalidTag:
            self._dead = True
            raise AttestationError(
                AttestationFailure.BAD_RECORD,
                "a record was altered, repeated, reordered or is not from this session",
            ) from None

    def _check_alive(self) -> None:
        if self._dead:
            raise AttestationError(
                AttestationFailure.BAD_RECORD, "the channel died with an earlier bad record"
            )

    def _load(self) -> None:
        keys = DirectionKeys.derive(self._secret)
        self._aead, self._iv, self._count = ChaCha20Poly1305(keys.key), int.from_bytes(keys.iv, "big"), 0

    def _next_nonce(self) -> bytes:
        if self._count == self._rekey_every:
            self._secret = expand_label(self._secret, "rekey", b"")
            self._load()
        nonce = (self._iv ^ self._count).to_bytes(IV_SIZE, "big")
        self._count += 1
        return nonce
