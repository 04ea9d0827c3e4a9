"""Logs against the quotes of a real TPM: truncated, reordered, retyped, or for another bank."""

import dataclasses
import os
import struct

import pytest

from authn.appraisal import Measured, appraise
from authn.event_log import EV_IPL, EV_NO_ACTION, EV_SEPARATOR, LogEvent, build_event_log
from authn.failure import AttestationFailure as F
from authn.layers import Layer
from authn.pcr import HashAlg
from authn.profile import Profile
from authn.public_area import AttestationKey
from authn.quote import ExpectedQuote
from authn.reference import ReferenceEvent, ReferenceSet, check_reference
from authn.tpm import Tpm
from tests.authn.refusals import refused

pytestmark = pytest.mark.tpm
PROFILE = Profile.of("p", {11: "boot"})
NONCE = b"n" * 32


@dataclasses.dataclass
class Booted:
    """One PCR of the TPM with three events in it, and what belongs to that."""

    key: AttestationKey
    tpm: Tpm
    events: tuple[LogEvent, ...]

    def appraise(self, log: bytes, profile: Profile = PROFILE) -> Measured:
        layer = Layer("tpm", self.tpm.quote(profile.selection, NONCE), log)
        return appraise((layer,), profile, ExpectedQuote(self.key, profile.selection, NONCE, {})).measured


@pytest.fixture(scope="module")
def booted(tpm: Tpm, key: AttestationKey) -> Booted:
    events = tuple(LogEvent(11, EV_IPL, os.urandom(32), name) for name in (b"kernel", b"initrd", b"options"))
    for event in events:
        tpm.extend(event.pcr, event.digest)
    return Booted(key, tpm, events)


def test_takes_the_log_of_what_was_measured(booted: Booted) -> None:
    assert booted.appraise(build_event_log(booted.events)).events == booted.events


def test_rejects_truncated_event_log(booted: Booted) -> None:
    with refused(F.PCR_MISMATCH):
        booted.appraise(build_event_log(booted.events[:2]))


def test_rejects_reordered_event_log(booted: Booted) -> None:
    one, two, three = booted.events
    with refused(F.PCR_MISMATCH):
        booted.appraise(build_event_log((two, one, three)))


def test_rejects_an_event_retyped_to_no_action(booted: Booted) -> None:
    """EV_NO_ACTION extends nothing: an event hidden that way is missing in the replay."""
    one, two, three = booted.events
    hidden = dataclasses.replace(two, event_type=EV_NO_ACTION)
    with refused(F.PCR_MISMATCH):
        booted.appraise(build_event_log((one, hidden, three)))


def test_rejects_an_event_moved_to_another_pcr(booted: Booted) -> None:
    one, two, three = booted.events
    with refused(F.PCR_MISMATCH):
        booted.appraise(build_event_log((one, dataclasses.replace(two, pcr=12), three)))


def test_a_retyped_event_decides_nothing(booted: Booted) -> None:
    """Types and data are not hashed: with the right digests the log still shows the same values."""
    retyped = [dataclasses.replace(one, event_type=EV_SEPARATOR, data=b"harmless") for one in booted.events]
    reference = ReferenceSet(
        1, 1e12, {"boot": tuple(ReferenceEvent("x", one.digest) for one in booted.events)}
    )
    check_reference(PROFILE, booted.appraise(build_event_log(retyped)), [reference], 0.0)
    wrong = ReferenceSet(1, 1e12, {"boot": (ReferenceEvent("harmless", b"\0" * 32),)})
    with refused(F.REFERENCE_MISMATCH):
        check_reference(PROFILE, booted.appraise(build_event_log(retyped)), [wrong], 0.0)


def test_rejects_a_log_without_the_wanted_bank(booted: Booted) -> None:
    log = bytearray(build_event_log(booted.events))
    at = log.index(struct.pack("<HH", HashAlg.SHA256, 32))
    log[at : at + 2] = struct.pack("<H", HashAlg.SHA384)
    with refused(F.MALFORMED_EVENT_LOG):
        booted.appraise(bytes(log))


def test_a_log_is_not_read_before_the_signature_is_good(booted: Booted) -> None:
    quote = booted.tpm.quote(PROFILE.selection, NONCE)
    layer = Layer("tpm", dataclasses.replace(quote, attest=quote.attest + b"\0"), b"no log at all")
    with refused(F.WRONG_AK):
        appraise((layer,), PROFILE, ExpectedQuote(booted.key, PROFILE.selection, NONCE, {}))
