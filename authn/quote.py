"""Verify a TPM quote: pure, over bytes, every check of its own (TPM 2.0 Part 1, "Attestation").

The order matters: the signature over the received bytes comes before anything is parsed out of them.
Neither tpm2-tss' unmarshalling (takes a wrong magic and trailing bytes) nor tpm2_checkquote 5.4 (takes
a relabelled PCR selection) is a reference.
"""

import hmac
import struct
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from authn.attest import QuoteAttest, parse_quote
from authn.errors import AttestationError
from authn.evidence import Counters, Quote, VerifiedQuote
from authn.failure import AttestationFailure
from authn.pcr import PcrSelection, pcr_digest
from authn.public_area import TPM_ALG_ECDSA, TPM_ALG_SHA256, AttestationKey

_ECDSA_SHA256 = ec.ECDSA(hashes.SHA256())
_MAX_COORDINATE = 32
Failure = AttestationFailure


@dataclass(frozen=True, slots=True)
class ExpectedQuote:
    """What a quote must show.

    `pcr_values` come from the replayed event log. `previous` are the counters last verified for this
    key: with `same_boot` the counts must be equal, without it the reset count may have grown. The firmware
    that kept them is pinned.
    """

    key: AttestationKey
    selection: PcrSelection
    qualifying_data: bytes
    pcr_values: Mapping[int, bytes]
    previous: Counters | None = None
    same_boot: bool = False


def verify_quote(quote: Quote, expected: ExpectedQuote) -> VerifiedQuote:
    """Return what the quote proves; raises AttestationError naming the first check that failed.

    Does not judge whether the PCR values are good: `authn.reference` does, on the same values.
    """
    check_signature(quote, expected.key)
    attest = parse_quote(quote.attest)
    check_origin(attest, expected)
    _check_content(attest, expected)
    check_counters(attest.counters, expected.previous, same_boot=expected.same_boot)
    _check_firmware(attest.counters, expected.previous)
    return VerifiedQuote(attest.counters, attest.pcr_digest)


def check_signature(quote: Quote, key: AttestationKey) -> None:
    """Check algorithm, hash and ECDSA signature over the bytes as received."""
    r, s = _parse_signature(quote.signature)
    try:
        key.key.verify(encode_dss_signature(r, s), quote.attest, _ECDSA_SHA256)
    except InvalidSignature:
        raise AttestationError(
            Failure.WRONG_AK, "not signed by the enrolled attestation key", expected=key.name.hex()
        ) from None


def _parse_signature(signature: bytes) -> tuple[int, int]:
    """Parse TPMT_SIGNATURE with two coordinates; the algorithm is the one fixed at enrollment."""
    malformed = AttestationError(Failure.MALFORMED_SIGNATURE, "not a TPMT_SIGNATURE", got=signature[:8].hex())
    if len(signature) < 4:
        raise malformed
    algorithm, hash_alg = struct.unpack_from(">HH", signature)
    if (algorithm, hash_alg) != (TPM_ALG_ECDSA, TPM_ALG_SHA256):
        raise AttestationError(
            Failure.WRONG_SIGNATURE_ALGORITHM,
            "signed with another algorithm than enrolled",
            expected=f"{TPM_ALG_ECDSA:#x}/{TPM_ALG_SHA256:#x}",
            got=f"{algorithm:#x}/{hash_alg:#x}",
        )
    numbers, at = [], 4
    for _ in range(2):
        length = int.from_bytes(signature[at : at + 2], "big")
        number = signature[at + 2 : at + 2 + length]
        if len(signature) < at + 2 or len(number) != length or not 0 < length <= _MAX_COORDINATE:
            raise malformed
        numbers.append(int.from_bytes(number, "big"))
        at += 2 + length
    if at != len(signature):
        raise malformed
    return numbers[0], numbers[1]


def check_origin(attest: QuoteAttest, expected: ExpectedQuote) -> None:
    """Check what was quoted, for which nonce, by which key in which hierarchy."""
    if attest.selection != expected.selection.encode():
        raise AttestationError(
            Failure.RELABELLED_PCR,
            "another PCR selection was signed",
            expected=expected.selection.encode().hex(),
            got=attest.selection.hex(),
        )
    if not hmac.compare_digest(attest.extra_data, expected.qualifying_data):
        raise AttestationError(
            Failure.REPLAYED_NONCE,
            "signed for another nonce, purpose or session",
            expected=expected.qualifying_data.hex(),
            got=attest.extra_data.hex(),
        )
    if attest.qualified_signer != expected.key.qualified_name:
        raise AttestationError(
            Failure.WRONG_QUALIFIED_SIGNER,
            "the key does not stand below the enrolled EK",
            expected=expected.key.qualified_name.hex(),
            got=attest.qualified_signer.hex(),
        )


def _check_content(attest: QuoteAttest, expected: ExpectedQuote) -> None:
    wanted = pcr_digest(expected.selection, expected.pcr_values)
    if len(attest.pcr_digest) != len(wanted) or not hmac.compare_digest(attest.pcr_digest, wanted):
        raise AttestationError(
            Failure.PCR_MISMATCH,
            f"the PCRs {expected.selection} are not what the event log says",
            expected=wanted.hex(),
            got=attest.pcr_digest.hex(),
        )


def check_counters(got: Counters, previous: Counters | None, *, same_boot: bool) -> None:
    """Check that the TPM has not been reset in a session, nor gone back between sessions.

    After a hard restart `safe` is 0 and the clock may go back: no failure once the reset count has grown.
    """
    if previous is None:
        return
    counts, before = (got.reset_count, got.restart_count), (previous.reset_count, previous.restart_count)
    if same_boot and counts != before:
        raise AttestationError(
            Failure.RESET_DURING_SESSION, "the TPM was reset in the session", expected=before, got=counts
        )
    if got.reset_count < previous.reset_count:
        raise AttestationError(
            Failure.RESET_COUNT_REGRESSION,
            "the TPM's reset count went back: an older state or a copy of this TPM",
            expected=f">= {previous.reset_count}",
            got=got.reset_count,
        )
    if got.reset_count == previous.reset_count and got.clock < previous.clock:
        raise AttestationError(
            Failure.CLOCK_REGRESSION,
            "the TPM's clock went back without a reset: an older state or a copy of this TPM",
            expected=f">= {previous.clock}",
            got=got.clock,
        )


def _check_firmware(got: Counters, previous: Counters | None) -> None:
    pinned = previous.firmware_version if previous else None
    if pinned is not None and got.firmware_version != pinned:
        raise AttestationError(
            Failure.FIRMWARE_CHANGED,
            "the TPM's firmware version changed",
            expected=f"{pinned:#x}",
            got=f"{got.firmware_version:#x}",
        )
