"""Parse TPMS_ATTEST of a quote from the signed bytes, bounds-checked (TPM 2.0 Part 2, 10.12)."""

import struct
from dataclasses import dataclass

from authn.cursor import Cursor
from authn.errors import AttestationError
from authn.evidence import Counters
from authn.failure import AttestationFailure

TPM_GENERATED_VALUE = 0xFF544347
TPM_ST_ATTEST_QUOTE = 0x8018
_CLOCK_INFO = struct.Struct(">QIIB")


@dataclass(frozen=True, slots=True)
class QuoteAttest:
    """The fields of a quote's TPMS_ATTEST; `selection` is the raw TPML_PCR_SELECTION."""

    magic: int
    type: int
    qualified_signer: bytes
    extra_data: bytes
    counters: Counters
    selection: bytes
    pcr_digest: bytes


def parse_quote(attest: bytes) -> QuoteAttest:
    """Parse; raises AttestationError with the first thing wrong, in the order of the bytes."""
    cursor = Cursor(attest, "big", lambda _, missing: _ends_early(len(attest)))
    magic = cursor.number(4)
    if magic != TPM_GENERATED_VALUE:
        raise AttestationError(
            AttestationFailure.WRONG_MAGIC,
            "not made by a TPM",
            expected=hex(TPM_GENERATED_VALUE),
            got=hex(magic),
        )
    kind = cursor.number(2)
    if kind != TPM_ST_ATTEST_QUOTE:
        raise AttestationError(
            AttestationFailure.WRONG_TYPE, "not a quote", expected=hex(TPM_ST_ATTEST_QUOTE), got=hex(kind)
        )
    signer, extra = cursor.sized(2), cursor.sized(2)
    clock, resets, restarts, safe = _CLOCK_INFO.unpack(cursor.take(_CLOCK_INFO.size))
    firmware = cursor.number(8)
    selection = _selection(cursor)
    digest = cursor.sized(2)
    if cursor.at != len(attest):
        raise AttestationError(
            AttestationFailure.TRAILING_BYTES,
            "bytes follow the quote",
            expected=0,
            got=len(attest) - cursor.at,
        )
    counters = Counters(clock, resets, restarts, bool(safe), firmware)
    return QuoteAttest(magic, kind, signer, extra, counters, selection, digest)


def _selection(cursor: Cursor) -> bytes:
    start = cursor.at
    for _ in range(cursor.number(4)):
        cursor.take(2)
        cursor.take(cursor.number(1))
    return cursor.data[start : cursor.at]


def _ends_early(size: int) -> AttestationError:
    return AttestationError(AttestationFailure.MALFORMED_ATTEST, "the attested bytes end too early", got=size)
