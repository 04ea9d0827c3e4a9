"""Compare what a log and its PCRs show with signed reference values, and explain a mismatch (RFC 9334)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from authn.appraisal import Measured
from authn.errors import AttestationError
from authn.event_log import EV_NO_ACTION, LogEvent
from authn.failure import AttestationFailure
from authn.ima import IMA_PCR, ImaEntry
from authn.pcr import HashAlg, extend
from authn.profile import IMA_PREFIX, Profile
from authn.signing import DocumentError, SignedDocument, sign_document

KIND = "reference-set"
FIRMWARE_PCRS = range(8)  # TCG PC Client Platform Firmware Profile 3.3.4
_NONE = "no further event"


@dataclass(frozen=True, slots=True)
class ReferenceEvent:
    """One event a good machine measures."""

    description: str
    digest: bytes


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """Named reference values: each name stands for the events of one PCR. Expires at `not_after` (s)."""

    version: int
    not_after: float
    values: Mapping[str, tuple[ReferenceEvent, ...]]

    @classmethod
    def from_document(cls, document: SignedDocument) -> "ReferenceSet":
        """Read a verified document; raises DocumentError."""
        try:
            values = {
                str(name): tuple(ReferenceEvent(str(what), bytes.fromhex(digest)) for what, digest in events)
                for name, events in document.payload["values"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise DocumentError("malformed", f"not a reference set: {error}") from error
        return cls(document.version, document.not_after, values)

    def sign(self, key: Any) -> bytes:
        """Write the set as a signed document."""
        values = {
            name: [[event.description, event.digest.hex()] for event in events]
            for name, events in self.values.items()
        }
        return sign_document(KIND, self.version, self.not_after, {"values": values}, key)

    def value(self, name: str, bank: HashAlg) -> bytes | None:
        """Return the PCR value that the named events lead to; None for an unknown name."""
        events = self.values.get(name)
        if events is None:
            return None
        value = bytes(bank.size)
        for event in events:
            value = extend(bank, value, event.digest)
        return value


def check_reference(profile: Profile, measured: Measured, sets: Iterable[ReferenceSet], now: float) -> None:
    """Accept what was measured when one valid set has all of it; raises AttestationError.

    The error explains what differs from the newest set that has most of the profile's values: others are for other images.
    """
    names = {name.removeprefix(IMA_PREFIX) for name in profile.references.values()}

    def lacks(one: ReferenceSet) -> int:
        return len(names - one.values.keys())

    sets = sorted(sets, key=lambda one: (lacks(one), -one.version))
    valid = [one for one in sets if now <= one.not_after]
    if not valid:
        raise AttestationError(
            AttestationFailure.REFERENCE_EXPIRED, "no reference set is valid now", sets=len(sets)
        )
    refusals = [_refusal(profile, measured, one) for one in valid]
    if None in refusals or refusals[0] is None:
        _check_nonzero(profile, measured.pcr_values)
        return
    if any(_refusal(profile, measured, one) is None for one in sets if now > one.not_after) or (
        lacks(sets[0]) < lacks(valid[0])
    ):
        message = "the reference set that has these values is not valid any more"
        raise AttestationError(AttestationFailure.REFERENCE_EXPIRED, message, sets=len(sets))
    raise refusals[0]


def _check_nonzero(profile: Profile, pcr_values: Mapping[int, bytes]) -> None:
    """Refuse a PCR that firmware never measured into, whatever a reference set says: every boot ends it with a separator."""
    for index in profile.selection.indices:
        if index in FIRMWARE_PCRS and not any(pcr_values[index]):
            raise AttestationError(
                AttestationFailure.ZERO_PCR, f"PCR {index} was never measured into", pcr=index
            )


def _refusal(profile: Profile, measured: Measured, reference: ReferenceSet) -> AttestationError | None:
    """Return what this set has against it; None: nothing."""
    differences: list[_Difference] = []
    for index in profile.selection.indices:
        name, value = profile.references[index], measured.pcr_values[index]
        if profile.ima_reference is not None and index == IMA_PCR:
            continue
        wanted = reference.values.get(name)
        if wanted is None:
            return _unknown(index, name)
        if reference.value(name, profile.selection.bank) != value:
            differences += _differences(measured.events, index, wanted) or [
                _Difference(index, name, "the reference value", value.hex())
            ]
    if differences:
        return _explain(differences)
    if profile.ima_reference is not None:
        return _file_refusal(measured.files, profile.ima_reference, reference)
    return None


def _unknown(index: int, name: str) -> AttestationError:
    message = (
        f"PCR {index}: the reference set that fits best has no value named {name}, which the profile demands"
    )
    return AttestationError(AttestationFailure.UNKNOWN_REFERENCE, message, pcr=index)


def _file_refusal(files: Sequence[ImaEntry], name: str, reference: ReferenceSet) -> AttestationError | None:
    """Compare each measured file with the allowed ones."""
    allowed = reference.values.get(name)
    if allowed is None:
        return _unknown(IMA_PCR, name)
    digests = {event.digest for event in allowed}
    for entry in files:
        if entry.violation:
            message = f"PCR {IMA_PCR}: {entry.path} was changed while it was measured"
            return AttestationError(AttestationFailure.IMA_VIOLATION, message, pcr=IMA_PCR)
        if entry.digest not in digests:
            return _unknown_file(entry, allowed)
    return None


def _unknown_file(entry: ImaEntry, allowed: Sequence[ReferenceEvent]) -> AttestationError:
    expected = next(
        (one.digest.hex() for one in allowed if one.description == entry.path), "a file of the image"
    )
    return AttestationError(
        AttestationFailure.UNKNOWN_FILE,
        f"PCR {IMA_PCR}: {entry.path} is not what was built: expected {expected}, got {entry.digest.hex()}",
        pcr=IMA_PCR,
        expected=expected,
        got=entry.digest.hex(),
    )


@dataclass(frozen=True, slots=True)
class _Difference:
    """An event that is not what a good machine measures."""

    pcr: int
    what: str
    expected: str
    got: str

    def __str__(self) -> str:
        return f"PCR {self.pcr}: {self.what} differs: expected {self.expected}, got {self.got}"


def _differences(
    events: Sequence[LogEvent], index: int, wanted: Sequence[ReferenceEvent]
) -> list[_Difference]:
    """Compare one PCR's events; where one is missing or one too many, only the first says something."""
    measured = [event for event in events if event.pcr == index and event.event_type != EV_NO_ACTION]
    found: list[_Difference] = []
    for expected, got in zip_longest(wanted, measured):
        if expected is None or got is None or expected.digest != got.digest:
            what = expected.description if expected else got.described if got else ""
            expected_digest = expected.digest.hex() if expected else _NONE
            found.append(_Difference(index, what, expected_digest, got.digest.hex() if got else _NONE))
    return found if len(wanted) == len(measured) else found[:1]


def _explain(differences: Sequence[_Difference]) -> AttestationError:
    """Name every event that differs: an image differs as a whole, and in the part that was altered."""
    first = differences[0]
    return AttestationError(
        AttestationFailure.REFERENCE_MISMATCH,
        "; ".join(map(str, differences)),
        pcr=first.pcr,
        expected=first.expected,
        got=first.got,
    )
