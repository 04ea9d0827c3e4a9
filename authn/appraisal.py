"""Appraise one machine's evidence: logs replayed, quote verified against them (RFC 9334, "Appraisal")."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

from authn.attest import parse_quote
from authn.errors import AttestationError
from authn.event_log import LogEvent, parse_event_log, replay
from authn.evidence import Quote, VerifiedQuote
from authn.failure import AttestationFailure
from authn.ima import IMA_PCR, ImaEntry, MeasuredFiles, parse_ima_list
from authn.layers import KNOWN, Layer, own_layer
from authn.pcr import PcrSelection, pcr_digest
from authn.profile import Profile
from authn.quote import ExpectedQuote, check_signature, verify_quote


@dataclass(frozen=True, slots=True)
class Measured:
    """What a quote has proved to be measured: events, the files of the IMA list, and the PCR values they lead to."""

    events: tuple[LogEvent, ...]
    files: tuple[ImaEntry, ...]
    pcr_values: Mapping[int, bytes]


CheckReference = Callable[[Measured], None]


@dataclass(frozen=True, slots=True)
class Appraisal:
    """The result: `files` goes on to follow the IMA list where the profile demands one."""

    verified: VerifiedQuote
    measured: Measured
    files: MeasuredFiles | None


def check_layers(layers: Iterable[Layer], profile: Profile) -> None:
    """Refuse when the profile demands a layer that is missing, or that nobody here can judge."""
    present = {layer.name for layer in layers}
    for name in profile.layers:
        if name not in present or name not in KNOWN:
            raise AttestationError(
                AttestationFailure.UNKNOWN_LAYER,
                f"profile {profile.id} demands evidence of layer {name!r}, which was not given or is not known here",
                expected=sorted(profile.layers),
                got=sorted(present),
            )


def appraise(layers: tuple[Layer, ...], profile: Profile, expected: ExpectedQuote) -> Appraisal:
    """Appraise the layers; `expected.pcr_values` is not looked at: the logs say what the PCRs should be.

    Raises AttestationError. The signature is checked before a log is parsed.
    """
    check_layers(layers, profile)
    layer = own_layer(layers)
    check_signature(layer.quote, expected.key)
    events = parse_event_log(layer.event_log, profile.selection.bank)
    values = replay(events, profile.selection)
    files, proved = None, tuple[ImaEntry, ...]()
    if profile.ima_reference is not None:
        files = MeasuredFiles.from_boot(profile.selection.bank)
        files.append(parse_ima_list(layer.ima_list))
        values, proved = follow(files, layer.quote, profile.selection, values)
    verified = verify_quote(layer.quote, replace(expected, pcr_values=values))
    return Appraisal(verified, Measured(events, proved, values), files)


def follow(
    files: MeasuredFiles, signed: Quote, selection: PcrSelection, pcr_values: Mapping[int, bytes]
) -> tuple[dict[int, bytes], tuple[ImaEntry, ...]]:
    """Go on in the IMA list to where this quote was made; return the PCR values and the entries newly proved.

    A list that leads nowhere near the quote gives its last proved value: the quote is then refused by its digest.
    """
    digest = parse_quote(signed.attest).pcr_digest
    values = dict(pcr_values)

    def matches(value: bytes) -> bool:
        return pcr_digest(selection, {**values, IMA_PCR: value}) == digest

    proved = files.prove(matches)
    return {**values, IMA_PCR: files.value}, proved or ()
