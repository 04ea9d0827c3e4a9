"""Evidence bundles: Quotegate's own verifier and a foreign one come to the same verdict, check by check."""

import datetime as dt
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn import labels
from authn.bundle import Anchors, BundleError, BundleVerifier, EvidenceBundle
from authn.ek_certificate import CertificateAuthority
from authn.event_log import EV_IPL, LogEvent, build_event_log
from authn.evidence import Counters
from authn.layers import Layer
from authn.profile import Profile
from authn.reference import ReferenceEvent, ReferenceSet
from authn.signing import key_id
from authn.tpm import Tpm, TpmIdentity
from tests.foreign import evidence as foreign

pytestmark = pytest.mark.tpm
NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
PROFILE = Profile.of("p", {13: "boot"})
SIGNER = Ed25519PrivateKey.generate()
PUBLIC = SIGNER.public_key().public_bytes_raw()


@pytest.fixture(scope="module")
def bundle(tpm: Tpm, identity: TpmIdentity) -> EvidenceBundle:
    authority = CertificateAuthority.create("test CA", NOW, 30)
    events = [LogEvent(13, EV_IPL, os.urandom(32), name) for name in (b"kernel", b"initrd")]
    for event in events:
        tpm.extend(event.pcr, event.digest)
    th2 = os.urandom(32)
    label = labels.peer_handshake(th2)
    references = ReferenceSet(
        1, NOW.timestamp() + 100, {"boot": tuple(ReferenceEvent(one.described, one.digest) for one in events)}
    )
    return EvidenceBundle(
        "lab/web", "lab/gateway", NOW.timestamp(), "accepted",
        authority.issue(identity.ek_public, "web", "u", NOW, 10), identity.ek_public, identity.ak_public,
        th2, label, PROFILE.selection.encode(), PROFILE,
        (Layer("tpm", tpm.quote(PROFILE.selection, label), build_event_log(events)),),
        Counters(0, 1, 0, True), (references.sign(SIGNER),),
        Anchors((authority.root_pem().decode(),), {key_id(PUBLIC): PUBLIC}),
    )  # fmt: skip


def _foreign_verdict(bundle: EvidenceBundle, anchors: Anchors) -> str | None:
    try:
        foreign.verify(bundle.to_json(), anchors.to_json())
    except foreign.Failed as failed:
        return str(failed)
    return None


def _own_verdict(bundle: EvidenceBundle, anchors: Anchors) -> str | None:
    verifier = BundleVerifier(bundle, anchors)
    return None if verifier.verify() is None else verifier.checks[-1].name


def test_a_good_bundle_verifies_for_both(bundle: EvidenceBundle) -> None:
    assert _own_verdict(bundle, bundle.anchors) is None
    assert _foreign_verdict(bundle, bundle.anchors) is None


def test_a_bundle_survives_its_file(bundle: EvidenceBundle) -> None:
    again = EvidenceBundle.parse(json.dumps(bundle.to_json()).encode())
    assert again.to_json() == bundle.to_json()
    assert _own_verdict(again, again.anchors) is None


def _flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def _layer(bundle: EvidenceBundle, **changes: Any) -> EvidenceBundle:
    return replace(bundle, layers=(replace(bundle.layers[0], **changes),))


def _quote(bundle: EvidenceBundle, part: str, at: int) -> EvidenceBundle:
    quote = bundle.layers[0].quote
    return _layer(bundle, quote=replace(quote, **{part: _flip(getattr(quote, part), at)}))


def _foreign_ca() -> tuple[str, ...]:
    return (CertificateAuthority.create("test CA", NOW, 30).root_pem().decode(),)


def _signed(bundle: EvidenceBundle, not_after: float, digest: bytes) -> EvidenceBundle:
    one = ReferenceSet(2, not_after, {"boot": (ReferenceEvent("kernel", digest),)})
    return replace(bundle, reference_sets=(one.sign(SIGNER),))


FAULTS: dict[str, tuple[Callable[[EvidenceBundle], EvidenceBundle], str]] = {
    "another CA": (
        lambda b: replace(b, anchors=replace(b.anchors, ek_roots=_foreign_ca())),
        "ek-certificate",
    ),
    "after the certificate's end": (lambda b: replace(b, taken_at=b.taken_at + 11 * 86400), "ek-certificate"),
    "another peer's name": (lambda b: replace(b, peer_id="lab/db"), "peer-name"),
    "another EK": (lambda b: replace(b, ek_public=b.ak_public), "ek-certificate"),
    "an EK for an AK": (lambda b: replace(b, ak_public=b.ek_public), "attestation-key"),
    "another transcript": (lambda b: replace(b, th2=bytes(32)), "qualifying-data"),
    "another selection": (lambda b: replace(b, selection=_flip(b.selection, 8)), "selection"),
    "another profile than the verifier's": (
        lambda b: replace(b, anchors=replace(b.anchors, profile=Profile.of("p", {13: "boot", 14: "none"}))),
        "selection",
    ),
    "another demand than the verifier's": (
        lambda b: replace(b, anchors=replace(b.anchors, profile=Profile.of("p", {13: "none"}))),
        "reference-values",
    ),
    "an unknown key": (lambda b: replace(b, anchors=replace(b.anchors, reference_keys={})), "reference-sets"),
    "an expired reference set": (lambda b: _signed(b, 1.0, bytes(32)), "reference-sets"),
    "an altered reference set": (
        lambda b: replace(b, reference_sets=(b.reference_sets[0].replace(b"kernel", b"kernal"),)),
        "reference-sets",
    ),
    "an altered attest": (lambda b: _quote(b, "attest", 60), "quote-and-logs"),
    "an altered signature": (lambda b: _quote(b, "signature", 20), "quote-and-logs"),
    "a shorter log": (
        lambda b: _layer(b, event_log=build_event_log([LogEvent(13, EV_IPL, bytes(32), b"")])),
        "quote-and-logs",
    ),
    "a quote from the past": (lambda b: replace(b, previous=Counters(0, 1 << 31, 0, True)), "quote-and-logs"),
    "another firmware than before": (
        lambda b: replace(b, previous=Counters(0, 1, 0, True, 1)),
        "quote-and-logs",
    ),
    "another machine's layer": (lambda b: _layer(b, name="host"), "quote-and-logs"),
    "another reference value": (lambda b: _signed(b, b.taken_at + 1, bytes(32)), "reference-values"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_both_verifiers_name_the_same_failed_check(bundle: EvidenceBundle, fault: str) -> None:
    alter, check = FAULTS[fault]
    altered = alter(bundle)
    assert _own_verdict(altered, altered.anchors) == check
    assert _foreign_verdict(altered, altered.anchors) == check


def test_a_mismatch_explains_itself(bundle: EvidenceBundle) -> None:
    altered = _signed(bundle, bundle.taken_at + 1, bytes(32))
    refusal = BundleVerifier(altered, altered.anchors).verify()
    assert refusal is not None
    assert refusal.params["pcr"] == 13
    assert refusal.params["expected"] == bytes(32).hex()
    assert "PCR 13: kernel differs" in refusal.message


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"format": "other"}',
        b"\xff",
        b"[" * 100000,
        b'{"format": "quotegate-evidence/1"}',
    ],
)
def test_rejects_what_is_no_bundle(data: bytes) -> None:
    with pytest.raises(BundleError, match="not an evidence bundle"):
        EvidenceBundle.parse(data)


@pytest.mark.parametrize(
    "change",
    [
        {"taken_at": 10**400},
        {"taken_at": 1e300},
        {"taken_at": float("nan")},
        {"previous": {"clock": float("inf"), "reset_count": 1, "restart_count": 1}},
        {"previous": {"clock": 0, "reset_count": 1, "restart_count": 1, "firmware_version": ""}},
        {"previous": 0},
        {"previous": ""},
    ],
    ids=["digits", "far", "no number", "clock", "firmware", "zero", "text"],
)
def test_rejects_numbers_that_are_none(bundle: EvidenceBundle, change: dict[str, Any]) -> None:
    text = json.dumps({**bundle.to_json(), **change})
    with pytest.raises(BundleError) as raised:
        EvidenceBundle.parse(text.encode())
    assert raised.value.code == "bad-bundle"


def test_the_verifiers_own_profile_comes_with_its_anchors(bundle: EvidenceBundle) -> None:
    own = replace(bundle.anchors, profile=PROFILE)
    assert Anchors.from_json(json.loads(json.dumps(own.to_json()))) == own
    weaker = replace(bundle, profile=Profile.of("weak", {13: "boot"}, layers=()))
    verifier = BundleVerifier(weaker, own)
    assert verifier.verify() is None
    assert verifier.profile == PROFILE
    assert verifier.endorsement is not None
    assert (verifier.endorsement.name, verifier.endorsement.uuid) == ("web", "u")


@pytest.mark.parametrize("name", EvidenceBundle.__dataclass_fields__)
def test_rejects_a_missing_or_odd_field(bundle: EvidenceBundle, name: str) -> None:
    key = {"peer_id": "peer", "gateway_id": "gateway", "th2": "transcript"}.get(name, name)
    data = bundle.to_json()
    del data[key]
    with pytest.raises(BundleError):
        EvidenceBundle.parse(json.dumps(data).encode())
    if name not in ("peer_id", "gateway_id", "verdict", "reference_sets"):  # those are judged, not parsed
        with pytest.raises(BundleError):
            EvidenceBundle.parse(json.dumps({**data, key: ["odd"]}).encode())


def test_the_foreign_verifier_is_foreign() -> None:
    text = Path(foreign.__file__).read_text()
    assert not any(
        f"import {name}" in text or f"from {name}" in text
        for name in ("authn", "gateway", "hostlink", "vmhost", "filters")
    )
