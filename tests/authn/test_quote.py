"""Every check of the verifier, over a real TPM's quote that was altered and, where needed, signed again.

A TPM's own signature covers its own bytes: to reach the checks behind the signature, the altered bytes are
signed with a software key that stands for the AK.
"""

import dataclasses
import struct
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from hypothesis import given, settings
from hypothesis import strategies as st
from tpm2_pytss import TSS2_Exception

from authn.attest import parse_quote
from authn.errors import AttestationError
from authn.evidence import Counters, Quote
from authn.failure import AttestationFailure as F
from authn.pcr import HashAlg, PcrSelection, pcr_digest
from authn.public_area import AttestationKey
from authn.quote import ExpectedQuote, verify_quote
from authn.tpm import Tpm, TpmIdentity
from tests.authn.refusals import refused
from tests.authn.rogue import UNRESTRICTED, RogueTpm, duplicate_selection, empty_selection

pytestmark = pytest.mark.tpm
SELECTION = PcrSelection.of([4, 7, 9, 10])
NONCE = b"n" * 32


@dataclass
class Bench:
    quote: Quote
    expected: ExpectedQuote
    signer: ec.EllipticCurvePrivateKey

    def altered(self, change: Callable[[bytes], bytes]) -> Quote:
        attest = change(self.quote.attest)
        r, s = decode_dss_signature(self.signer.sign(attest, ec.ECDSA(hashes.SHA256())))
        return Quote(
            attest,
            struct.pack(">HHH", 0x18, 0x0B, 32) + r.to_bytes(32, "big") + b"\0\x20" + s.to_bytes(32, "big"),
        )

    def soft(self, **changes: object) -> ExpectedQuote:
        key = dataclasses.replace(self.expected.key, key=self.signer.public_key())
        return dataclasses.replace(self.expected, key=key, **changes)


@pytest.fixture(scope="module")
def bench(tpm: Tpm, key: AttestationKey) -> Bench:
    values, before = tpm.read_pcrs(SELECTION), tpm.counters()
    expected = ExpectedQuote(key, SELECTION, NONCE, values, before, same_boot=True)
    return Bench(tpm.quote(SELECTION, NONCE), expected, ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def rogue(tpm: Tpm, bench: Bench) -> RogueTpm:
    return RogueTpm(tpm)


def test_accepts_the_real_quote_and_an_identical_one(bench: Bench) -> None:
    verify_quote(bench.quote, bench.expected)
    verify_quote(bench.altered(bytes), bench.soft())


def _at(attest: bytes, field: str) -> int:
    """Find a field's offset in the real bytes."""
    parsed = parse_quote(attest)
    signer_end = 6 + 2 + len(parsed.qualified_signer)
    extra_end = signer_end + 2 + len(parsed.extra_data)
    return {
        "signer": 8,
        "extra": signer_end,
        "clock": extra_end,
        "firmware": extra_end + 17,
        "selection": extra_end + 25,
    }[field]


def _replace(field: str, length: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda attest: attest[: _at(attest, field)] + value + attest[_at(attest, field) + length :]


def test_rejects_wrong_magic(bench: Bench) -> None:
    with refused(F.WRONG_MAGIC):
        verify_quote(bench.altered(lambda attest: b"\xfeTCG" + attest[4:]), bench.soft())


def test_a_tpm_refuses_to_sign_a_forged_quote_with_a_restricted_key(bench: Bench, rogue: RogueTpm) -> None:
    with pytest.raises(TSS2_Exception):
        rogue.try_to_sign_a_forged_quote(bench.quote.attest)


def test_rejects_wrong_type(bench: Bench, rogue: RogueTpm) -> None:
    with refused(F.WRONG_TYPE):
        verify_quote(rogue.certify_clock(NONCE), bench.expected)
    with refused(F.WRONG_TYPE):
        verify_quote(bench.altered(lambda attest: attest[:4] + b"\x80\x17" + attest[6:]), bench.soft())


def test_rejects_trailing_bytes(bench: Bench) -> None:
    with refused(F.TRAILING_BYTES):
        verify_quote(bench.altered(lambda attest: attest + b"\0"), bench.soft())


def test_rejects_truncated_attest(bench: Bench) -> None:
    for length in range(6, len(bench.quote.attest)):
        with refused(F.MALFORMED_ATTEST):
            verify_quote(bench.altered(lambda attest, length=length: attest[:length]), bench.soft())


def _flip(bench: Bench, at: int) -> Quote:
    attest = bench.quote.attest
    return Quote(attest[:at] + bytes([attest[at] ^ 0x80]) + attest[at + 1 :], bench.quote.signature)


def _another_ak(bench: Bench, rogue: RogueTpm) -> Quote:
    key, _ = rogue.primary("ecc256:ecdsa-sha256:null")
    quote = rogue.quote(key, SELECTION, NONCE)
    rogue.forget(key)
    return quote


def _unrestricted_key(bench: Bench, rogue: RogueTpm) -> Quote:
    key, _ = rogue.primary("ecc256:ecdsa-sha256:null", UNRESTRICTED)
    quote = rogue.sign_anything(key, bench.quote.attest)
    rogue.forget(key)
    return quote


FORGED: dict[str, Callable[[Bench, RogueTpm], list[Quote]]] = {
    "one bit": lambda bench, _: [_flip(bench, at) for at in range(len(bench.quote.attest))],
    "another AK of the same TPM": lambda bench, rogue: [_another_ak(bench, rogue)],
    "an unrestricted key": lambda bench, rogue: [_unrestricted_key(bench, rogue)],
    "a key in software": lambda bench, _: [bench.altered(bytes)],
}


@pytest.mark.parametrize("how", FORGED)
def test_rejects_wrong_ak(bench: Bench, rogue: RogueTpm, how: str) -> None:
    for quote in FORGED[how](bench, rogue):
        with refused(F.WRONG_AK):
            verify_quote(quote, bench.expected)


@pytest.mark.parametrize("algorithm", ["rsa2048:rsassa-sha256:null", "ecc256:ecdsa-sha384:null"])
def test_rejects_another_signature_algorithm(bench: Bench, rogue: RogueTpm, algorithm: str) -> None:
    key, _ = rogue.primary(algorithm)
    quote = rogue.quote(key, SELECTION, NONCE)
    rogue.forget(key)
    with refused(F.WRONG_SIGNATURE_ALGORITHM):
        verify_quote(quote, bench.expected)
    for other in (b"\0\x18\0\x04", b"\0\x16\0\x0b", b"\0\x1a\0\x0b"):
        with refused(F.WRONG_SIGNATURE_ALGORITHM):
            verify_quote(Quote(bench.quote.attest, other + bench.quote.signature[4:]), bench.expected)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s[:-1],
        lambda s: s + b"\0",
        lambda s: s[:4],
        lambda s: b"",
        lambda s: s[:4] + b"\xff\xff" + s[6:],
        lambda s: s[:4] + b"\0\0" + s[38:],
        lambda s: s[:4] + b"\0\x21\0" + s[6:],
        lambda s: s[:38] + b"\0\x21\0" + s[40:],
    ],
)
def test_rejects_malformed_signature(bench: Bench, change: Callable[[bytes], bytes]) -> None:
    with refused(F.MALFORMED_SIGNATURE):
        verify_quote(Quote(bench.quote.attest, change(bench.quote.signature)), bench.expected)


SELECTIONS = {
    "relabelled": PcrSelection.of([4, 7, 9, 11]).encode(),
    "fewer": PcrSelection.of([4]).encode(),
    "more": PcrSelection.of([4, 7, 9, 10, 11]).encode(),
    "empty": empty_selection(),
    "no bits": struct.pack(">IHB3x", 1, 0x0B, 3),
    "wrong bank": PcrSelection.of([4, 7, 9, 10], HashAlg.SHA1).encode(),
    "duplicate bank": duplicate_selection(SELECTION),
    "longer bitmap": struct.pack(">IHB", 1, 0x0B, 4) + SELECTION.encode()[7:] + b"\0",
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_rejects_relabelled_pcr(bench: Bench, rogue: RogueTpm, name: str) -> None:
    """Relabelled in the bytes; and where a real TPM signs such a selection, as it signed it."""
    selection = SELECTIONS[name]
    with refused(F.RELABELLED_PCR):
        verify_quote(bench.altered(_replace("selection", len(SELECTION.encode()), selection)), bench.soft())
    if name != "longer bitmap":  # this TPM refuses it
        with refused(F.RELABELLED_PCR):
            verify_quote(rogue.quote(rogue.ak(), selection, NONCE), bench.expected)


@pytest.mark.parametrize("nonce", [b"o" * 32, NONCE[:31], b"", NONCE + b"\0"])
def test_rejects_replayed_nonce(bench: Bench, tpm: Tpm, nonce: bytes) -> None:
    with refused(F.REPLAYED_NONCE):
        verify_quote(tpm.quote(SELECTION, nonce), bench.expected)


def test_rejects_wrong_qualified_signer(bench: Bench, rogue: RogueTpm, identity: TpmIdentity) -> None:
    """A good restricted key in the owner hierarchy: it would hide the reset count."""
    handle, public = rogue.primary("ecc256:ecdsa-sha256:null")
    quote = rogue.quote(handle, SELECTION, NONCE)
    rogue.forget(handle)
    key = AttestationKey.from_public(public, identity.ek_public)
    with refused(F.WRONG_QUALIFIED_SIGNER):
        verify_quote(quote, dataclasses.replace(bench.expected, key=key, previous=None))


def test_rejects_pcr_mismatch(bench: Bench) -> None:
    """Another value in the log; a digest of another width under a good signature."""
    values = dict(bench.expected.pcr_values) | {10: b"\1" * 32}
    with refused(F.PCR_MISMATCH):
        verify_quote(bench.quote, dataclasses.replace(bench.expected, pcr_values=values))
    digest = pcr_digest(SELECTION, bench.expected.pcr_values)
    with refused(F.PCR_MISMATCH):
        verify_quote(
            bench.altered(lambda attest: attest[: -len(digest) - 2] + b"\0\x10" + digest[:16]), bench.soft()
        )


def _previous(bench: Bench, **changes: int) -> Counters:
    assert bench.expected.previous is not None
    return dataclasses.replace(bench.expected.previous, **changes)


def test_rejects_reset_during_session(bench: Bench) -> None:
    resets = parse_quote(bench.quote.attest).counters.reset_count
    for previous in (_previous(bench, reset_count=resets - 1), _previous(bench, restart_count=7)):
        with refused(F.RESET_DURING_SESSION):
            verify_quote(bench.quote, dataclasses.replace(bench.expected, previous=previous))


def test_rejects_reset_count_regression(bench: Bench) -> None:
    previous = _previous(bench, reset_count=1_000_000)
    with refused(F.RESET_COUNT_REGRESSION):
        verify_quote(bench.quote, dataclasses.replace(bench.expected, previous=previous, same_boot=False))


def test_rejects_clock_regression(bench: Bench) -> None:
    previous = _previous(bench, clock=1 << 60)
    for same_boot in (True, False):
        with refused(F.CLOCK_REGRESSION):
            verify_quote(
                bench.quote, dataclasses.replace(bench.expected, previous=previous, same_boot=same_boot)
            )


def test_takes_a_clock_that_went_back_with_a_reset(bench: Bench) -> None:
    resets = parse_quote(bench.quote.attest).counters.reset_count
    previous = _previous(bench, clock=1 << 60, reset_count=resets - 1)
    verify_quote(bench.quote, dataclasses.replace(bench.expected, previous=previous, same_boot=False))


def test_rejects_changed_firmware(bench: Bench) -> None:
    previous = _previous(bench, firmware_version=1)
    with refused(F.FIRMWARE_CHANGED):
        verify_quote(bench.quote, dataclasses.replace(bench.expected, previous=previous))


def test_a_guest_can_reset_pcr_16_so_it_proves_nothing(tpm: Tpm, rogue: RogueTpm) -> None:
    """Why a profile with PCR 16 or 23 is refused: what was measured into it can be unsaid."""
    selection = PcrSelection.of([16])
    before = tpm.read_pcrs(selection)
    tpm.extend(16, b"evil" * 8)
    rogue.reset_pcr(16)
    assert tpm.read_pcrs(selection) == before


@settings(max_examples=300)
@given(st.binary(max_size=200), st.binary(max_size=100))
def test_any_bytes_are_refused_clearly(attest: bytes, signature: bytes) -> None:
    key = AttestationKey(b"", b"", b"", ec.derive_private_key(1, ec.SECP256R1()).public_key())
    with pytest.raises(AttestationError):
        verify_quote(
            Quote(attest, signature),
            ExpectedQuote(key, SELECTION, NONCE, {i: bytes(32) for i in SELECTION.indices}),
        )
