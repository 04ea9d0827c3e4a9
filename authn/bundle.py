"""Evidence for outsiders: everything one handshake proved, in one JSON object that anybody can verify offline.

docs/evidence.md describes the format. Verification repeats the gateway's own checks, in their order, as of the
time the evidence was taken.
"""

import datetime as dt
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from authn import labels
from authn.appraisal import Appraisal, appraise
from authn.errors import AuthnError
from authn.evidence import Counters, Quote
from authn.layers import Layer
from authn.profile import Profile
from authn.public_area import AttestationKey
from authn.quote import ExpectedQuote
from authn.reference import KIND, ReferenceSet, check_reference
from authn.signing import verify_document

if TYPE_CHECKING:
    from authn.ek_certificate import EkIdentity

FORMAT = "quotegate-evidence/1"
MAX_BUNDLE = 64 << 20
ACCEPTED = "accepted"


class BundleError(AuthnError):
    """The file is no evidence bundle; `message` says where it departs from docs/evidence.md."""


@dataclass(frozen=True, slots=True)
class Anchors:
    """What a verifier trusts beforehand: CA certificates (PEM) for EKs, Ed25519 keys for reference sets by key id.

    `profile` is what it demands of the machine; None: what the file says was demanded.
    """

    ek_roots: tuple[str, ...]
    reference_keys: Mapping[str, bytes]
    profile: Profile | None = None

    def to_json(self) -> dict[str, Any]:
        """Write `{ek_roots, reference_keys}`, and `profile` where there is one."""
        keys = {name: key.hex() for name, key in sorted(self.reference_keys.items())}
        profile = {} if self.profile is None else {"profile": self.profile.to_json()}
        return {"ek_roots": list(self.ek_roots), "reference_keys": keys, **profile}

    @classmethod
    def from_json(cls, data: Any) -> "Anchors":
        """Read what `to_json` writes; raises KeyError, TypeError, ValueError, AuthnError."""
        keys = {str(name): bytes.fromhex(key) for name, key in data["reference_keys"].items()}
        profile = Profile.from_json(data["profile"]) if "profile" in data else None
        return cls(tuple(str(pem) for pem in data["ek_roots"]), keys, profile)


@dataclass(frozen=True, slots=True)
class EvidenceBundle:
    """One handshake's evidence. `taken_at` is in seconds since the epoch; `verdict` is `accepted` or the failed check."""

    peer_id: str
    gateway_id: str
    taken_at: float
    verdict: str
    ek_certificate: bytes
    ek_public: bytes
    ak_public: bytes
    th2: bytes
    qualifying_data: bytes
    selection: bytes
    profile: Profile
    layers: tuple[Layer, ...]
    previous: Counters | None
    reference_sets: tuple[bytes, ...]
    anchors: Anchors

    def to_json(self) -> dict[str, Any]:
        """Write the documented object; bytes as hex, reference sets as the JSON they are."""
        previous = self.previous and {
            "clock": self.previous.clock,
            "reset_count": self.previous.reset_count,
            "restart_count": self.previous.restart_count,
            "firmware_version": self.previous.firmware_version,
        }
        return {
            "format": FORMAT,
            "peer": self.peer_id,
            "gateway": self.gateway_id,
            "taken_at": self.taken_at,
            "verdict": self.verdict,
            "ek_certificate": self.ek_certificate.hex(),
            "ek_public": self.ek_public.hex(),
            "ak_public": self.ak_public.hex(),
            "transcript": self.th2.hex(),
            "qualifying_data": self.qualifying_data.hex(),
            "selection": self.selection.hex(),
            "profile": self.profile.to_json(),
            "layers": [_layer_json(layer) for layer in self.layers],
            "previous": previous,
            "reference_sets": [json.loads(document) for document in self.reference_sets],
            "anchors": self.anchors.to_json(),
        }

    @classmethod
    def parse(cls, untrusted: bytes) -> "EvidenceBundle":
        """Read a bundle; raises BundleError."""
        try:
            if len(untrusted) > MAX_BUNDLE:
                raise ValueError(f"larger than {MAX_BUNDLE} bytes")
            data = json.loads(untrusted)
            if data["format"] != FORMAT:
                raise ValueError(f"format {data['format']!r}, expected {FORMAT!r}")
            return cls._from_json(data)
        except KeyError as error:
            raise BundleError(
                "bad-bundle", f"not an evidence bundle: the field {error} is missing"
            ) from error
        except (TypeError, ValueError, AttributeError, OverflowError, RecursionError, AuthnError) as error:
            raise BundleError("bad-bundle", f"not an evidence bundle: {error}") from error

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> "EvidenceBundle":
        previous = data["previous"]
        return cls(
            peer_id=str(data["peer"]),
            gateway_id=str(data["gateway"]),
            taken_at=_time(data["taken_at"]),
            verdict=str(data["verdict"]),
            ek_certificate=bytes.fromhex(data["ek_certificate"]),
            ek_public=bytes.fromhex(data["ek_public"]),
            ak_public=bytes.fromhex(data["ak_public"]),
            th2=bytes.fromhex(data["transcript"]),
            qualifying_data=bytes.fromhex(data["qualifying_data"]),
            selection=bytes.fromhex(data["selection"]),
            profile=Profile.from_json(data["profile"]),
            layers=tuple(_layer(one) for one in data["layers"]),
            previous=None if previous is None else _counters(previous),
            reference_sets=tuple(json.dumps(one).encode() for one in data["reference_sets"]),
            anchors=Anchors.from_json(data["anchors"]),
        )


def _counters(data: dict[str, Any]) -> Counters:
    firmware = data.get("firmware_version")  # files of before did not say
    return Counters(
        int(data["clock"]),
        int(data["reset_count"]),
        int(data["restart_count"]),
        True,
        None if firmware is None else int(firmware),
    )


def _time(seconds: Any) -> float:
    at = float(seconds)
    try:
        dt.datetime.fromtimestamp(at, dt.UTC)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"taken_at is no time: {error}") from error
    return at


def _layer_json(layer: Layer) -> dict[str, str]:
    return {
        "name": layer.name,
        "attest": layer.quote.attest.hex(),
        "signature": layer.quote.signature.hex(),
        "event_log": layer.event_log.hex(),
        "ima_list": layer.ima_list.hex(),
    }


def _layer(data: dict[str, Any]) -> Layer:
    attest, signature, log, files = (
        bytes.fromhex(data[name]) for name in ("attest", "signature", "event_log", "ima_list")
    )
    return Layer(str(data["name"]), Quote(attest, signature), log, files)


@dataclass(frozen=True, slots=True)
class Check:
    """One check of a bundle: its name, and why it failed (None: it passed)."""

    name: str
    refusal: AuthnError | None = None


@dataclass(slots=True)
class BundleVerifier:
    """Verify one bundle step by step; stops at the first check that fails."""

    bundle: EvidenceBundle
    anchors: Anchors
    checks: list[Check] = field(default_factory=list)
    key: AttestationKey | None = None
    appraisal: Appraisal | None = None
    endorsement: "EkIdentity | None" = None
    _references: tuple[ReferenceSet, ...] = ()

    @property
    def profile(self) -> Profile:
        """Return what is demanded: by the verifier, or by the file's own word."""
        return self.anchors.profile or self.bundle.profile

    def verify(self) -> AuthnError | None:
        """Run all checks; return what the first failed one says, None when all passed."""
        steps: tuple[tuple[str, Callable[[], None]], ...] = (
            ("ek-certificate", self._check_certificate),
            ("peer-name", self._check_name),
            ("attestation-key", self._check_key),
            ("qualifying-data", self._check_qualifying_data),
            ("selection", self._check_selection),
            ("reference-sets", self._check_reference_sets),
            ("quote-and-logs", self._appraise),
            ("reference-values", self._check_references),
        )
        for name, step in steps:
            try:
                step()
            except AuthnError as refusal:
                self.checks.append(Check(name, refusal))
                return refusal
            self.checks.append(Check(name))
        return None

    def _check_certificate(self) -> None:
        # X.509 is a sixth of what a gateway loads, and it only writes bundles
        from cryptography import x509

        from authn.ek_certificate import verify_ek_chain

        try:
            roots = [x509.load_pem_x509_certificate(pem.encode()) for pem in self.anchors.ek_roots]
        except ValueError as error:
            raise BundleError("bad-anchor", f"an EK root is no PEM certificate: {error}") from error
        at = dt.datetime.fromtimestamp(self.bundle.taken_at, dt.UTC)
        self.endorsement = verify_ek_chain(self.bundle.ek_certificate, self.bundle.ek_public, roots, at)

    def _check_name(self) -> None:
        assert self.endorsement is not None  # noqa: S101 - the step before
        name = self.bundle.peer_id.rpartition("/")[2]
        if name != self.endorsement.name:
            raise BundleError(
                "wrong-peer-name",
                "the EK certificate was issued for another machine than the file names",
                expected=self.endorsement.name,
                got=name,
            )

    def _check_key(self) -> None:
        self.key = AttestationKey.from_public(self.bundle.ak_public, self.bundle.ek_public)

    def _check_qualifying_data(self) -> None:
        wanted = labels.peer_handshake(self.bundle.th2)
        if self.bundle.qualifying_data != wanted:
            raise BundleError(
                "wrong-qualifying-data",
                "the qualifying data is not that of a peer's handshake over the transcript",
                expected=wanted.hex(),
                got=self.bundle.qualifying_data.hex(),
            )

    def _check_selection(self) -> None:
        wanted = self.profile.selection.encode()
        if self.bundle.selection != wanted:
            raise BundleError(
                "wrong-selection",
                f"the selection is not that of profile {self.profile.id}",
                expected=wanted.hex(),
                got=self.bundle.selection.hex(),
            )

    def _check_reference_sets(self) -> None:
        keys, at = self.anchors.reference_keys, self.bundle.taken_at
        documents = [verify_document(one, KIND, keys, at) for one in self.bundle.reference_sets]
        self._references = tuple(ReferenceSet.from_document(one) for one in documents)

    def _appraise(self) -> None:
        assert self.key is not None  # noqa: S101 - the step before
        bundle = self.bundle
        expected = ExpectedQuote(
            self.key, self.profile.selection, bundle.qualifying_data, {}, bundle.previous
        )
        self.appraisal = appraise(bundle.layers, self.profile, expected)

    def _check_references(self) -> None:
        assert self.appraisal is not None  # noqa: S101 - the step before
        check_reference(self.profile, self.appraisal.measured, self._references, self.bundle.taken_at)
