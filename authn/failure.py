"""Name every way in which attestation can fail: one member per check."""

from enum import StrEnum


class AttestationFailure(StrEnum):
    """Which check refused the evidence. docs/reasons.md has one line per member."""

    # the quote itself, in the order of the checks (authn.quote)
    MALFORMED_SIGNATURE = "malformed-signature"
    WRONG_SIGNATURE_ALGORITHM = "wrong-signature-algorithm"
    WRONG_AK = "wrong-ak"
    WRONG_MAGIC = "wrong-magic"
    WRONG_TYPE = "wrong-type"
    TRAILING_BYTES = "trailing-bytes"
    MALFORMED_ATTEST = "malformed-attest"
    RELABELLED_PCR = "relabelled-pcr"
    REPLAYED_NONCE = "replayed-nonce"
    WRONG_QUALIFIED_SIGNER = "wrong-qualified-signer"
    PCR_MISMATCH = "pcr-mismatch"
    RESET_DURING_SESSION = "reset-during-session"
    RESET_COUNT_REGRESSION = "reset-count-regression"
    CLOCK_REGRESSION = "clock-regression"
    FIRMWARE_CHANGED = "firmware-changed"
    # what the quote shows (authn.event_log, authn.ima, authn.reference)
    MALFORMED_EVENT_LOG = "malformed-event-log"
    REFERENCE_MISMATCH = "reference-mismatch"
    REFERENCE_EXPIRED = "reference-expired"
    UNKNOWN_REFERENCE = "unknown-reference"
    ZERO_PCR = "zero-pcr"
    UNKNOWN_LAYER = "unknown-layer"
    MALFORMED_IMA_LIST = "malformed-ima-list"
    IMA_VIOLATION = "ima-violation"
    UNKNOWN_FILE = "unknown-file"
    # identity (authn.enrollment, gateway registry)
    UNKNOWN_PEER = "unknown-peer"
    UNTRUSTED_EK = "untrusted-ek"
    WRONG_EK = "wrong-ek"
    WRONG_KEY_ATTRIBUTES = "wrong-key-attributes"
    WRONG_CREDENTIAL = "wrong-credential"
    WRONG_PLACE = "wrong-place"
    TPM_CLONE = "tpm-clone"
    # the conversation (authn.handshake, authn.channel, beacons)
    MALFORMED_MESSAGE = "malformed-message"
    UNSUPPORTED_VERSION = "unsupported-version"
    WRONG_GATEWAY = "wrong-gateway"
    WRONG_BATCH_PROOF = "wrong-batch-proof"
    WRONG_MAC = "wrong-mac"
    BAD_RECORD = "bad-record"
    LATE_ANSWER = "late-answer"
    NO_ANSWER = "no-answer"
    HANDSHAKE_TIMEOUT = "handshake-timeout"


# What an operator or the gateway itself has to mend: a restart of the peer would not help.
NOT_THE_PEERS_FAULT = frozenset(
    {
        AttestationFailure.REFERENCE_EXPIRED,
        AttestationFailure.UNKNOWN_REFERENCE,
        AttestationFailure.UNKNOWN_LAYER,
    }
)

# What a restart does not mend, though it is the peer's.
PAST_RESTARTS = frozenset({AttestationFailure.FIRMWARE_CHANGED})

# What refutes a gateway to its peer, as opposed to a broken or refused conversation: the peer tells the host's monitor.
REFUTES_THE_GATEWAY = frozenset(
    {
        AttestationFailure.PCR_MISMATCH,
        AttestationFailure.REFERENCE_MISMATCH,
        AttestationFailure.REFERENCE_EXPIRED,
        AttestationFailure.RESET_DURING_SESSION,
        AttestationFailure.RESET_COUNT_REGRESSION,
        AttestationFailure.CLOCK_REGRESSION,
        AttestationFailure.FIRMWARE_CHANGED,
        AttestationFailure.ZERO_PCR,
        AttestationFailure.WRONG_AK,
        AttestationFailure.NO_ANSWER,
    }
)
