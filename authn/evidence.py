"""The evidence a TPM gives, before and after verification."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote as received, not verified: TPMS_ATTEST and TPMT_SIGNATURE (TPM 2.0 Part 2)."""

    attest: bytes
    signature: bytes


@dataclass(frozen=True, slots=True)
class Counters:
    """The TPM's clock (ms) and counts, as a quote signs them (TPMS_CLOCK_INFO), and the firmware that keeps them.

    `firmware_version` None: a record from before it was kept.
    """

    clock: int
    reset_count: int
    restart_count: int
    safe: bool
    firmware_version: int | None = None


@dataclass(frozen=True, slots=True)
class VerifiedQuote:
    """What a quote has proved. Only `authn.quote.verify_quote` makes one."""

    counters: Counters
    pcr_digest: bytes
