"""Logs and quotes of real boots (`tests/authn/recorded`): the good one is taken; altered boots and bent logs are refused."""

import dataclasses
from collections.abc import Sequence

import pytest

from authn.bundle import BundleVerifier, EvidenceBundle
from authn.errors import AttestationError
from authn.event_log import EV_NO_ACTION, EV_SEPARATOR, LogEvent, build_event_log, parse_event_log
from authn.failure import AttestationFailure as F
from authn.ima import IMA_PCR, ImaEntry, parse_ima_list
from authn.layers import Layer
from authn.reference import ReferenceSet
from authn.signing import verify_document
from tests.authn.recordings import GOOD, VIOLATION, load, path_of
from vmhost.image.references import value_name

ALTERED = {
    "kernel": {"the image": 4, "kernel": 4, "section .linux": 11},
    "initrd": {"the image": 4, "initrd": 9, "section .initrd": 11},
    "agent": {"the image": 4, "initrd": 9, "section .initrd": 11},
    "command-line": {"the image": 4, "command line": 9, "section .cmdline": 11},
    "debug-shell": {"the image": 4, "command line": 9, "section .cmdline": 11},
}


@pytest.fixture(scope="module")
def good() -> EvidenceBundle:
    return load(GOOD)


def refusal(bundle: EvidenceBundle) -> AttestationError | None:
    """Judge a bundle as the gateway does; None: it is taken."""
    found = BundleVerifier(bundle, bundle.anchors).verify()
    assert found is None or isinstance(found, AttestationError), found
    return found


def with_layer(bundle: EvidenceBundle, **changes: bytes) -> EvidenceBundle:
    (layer,) = bundle.layers
    return dataclasses.replace(bundle, layers=(dataclasses.replace(layer, **changes),))


def with_events(bundle: EvidenceBundle, events: Sequence[LogEvent]) -> EvidenceBundle:
    return with_layer(bundle, event_log=build_event_log(events))


def with_files(bundle: EvidenceBundle, entries: Sequence[ImaEntry]) -> EvidenceBundle:
    return with_layer(bundle, ima_list=b"".join(one.encode() for one in entries))


def layer_of(bundle: EvidenceBundle) -> Layer:
    (layer,) = bundle.layers
    return layer


def events_of(bundle: EvidenceBundle) -> tuple[LogEvent, ...]:
    return parse_event_log(layer_of(bundle).event_log)


def counts(event: LogEvent, bundle: EvidenceBundle) -> bool:
    """Tell whether an event leads to a quoted PCR."""
    return event.pcr in bundle.profile.selection.indices and event.event_type != EV_NO_ACTION


def mismatches(bundle: EvidenceBundle) -> bool:
    found = refusal(bundle)
    return found is not None and found.failure is F.PCR_MISMATCH


def test_takes_the_good_boot(good: EvidenceBundle) -> None:
    assert good.verdict == "accepted"
    assert refusal(good) is None


@pytest.mark.parametrize("what", ALTERED)
def test_rejects_an_altered_boot_and_explains_it(what: str) -> None:
    bundle = load(what)
    found = refusal(bundle)
    assert found is not None
    assert found.failure is F.REFERENCE_MISMATCH
    assert bundle.verdict == "reference-mismatch"
    measured = {event.digest.hex() for event in events_of(bundle)}
    keys, at = bundle.anchors.reference_keys, bundle.taken_at
    document = verify_document(bundle.reference_sets[0], "reference-set", keys, at)
    wanted = ReferenceSet.from_document(document).values
    explained = [part.removeprefix("PCR ") for part in found.message.split("; ")]
    assert len(explained) == len(ALTERED[what])
    for (event, pcr), said in zip(ALTERED[what].items(), explained, strict=True):
        (expected,) = (
            one.digest.hex() for one in wanted[value_name("guest", pcr)] if one.description == event
        )
        got = said.rpartition(" ")[2]
        assert said == f"{pcr}: {event} differs: expected {expected}, got {got}"
        assert got in measured
        assert got != expected


def test_rejects_other_boot_options_and_shows_them() -> None:
    """The image as it was built, started by the firmware's shell with a longer command line: PCR 12 has it alone."""
    bundle = load("boot-options")
    found = refusal(bundle)
    assert found is not None
    assert bundle.verdict == found.failure == F.REFERENCE_MISMATCH
    pcr4, pcr9, pcr12 = found.message.split("; ")
    assert pcr4.startswith("PCR 4: the image differs")
    assert pcr9.startswith("PCR 9: command line differs")
    assert pcr12.startswith("PCR 12: console=ttyS0,115200 ")
    assert " quotegate.altered=1 differs: expected no further event, got " in pcr12


def test_rejects_truncated_event_log(good: EvidenceBundle) -> None:
    log, seen = layer_of(good).event_log, set()
    needed = sum(counts(event, good) for event in events_of(good))
    for length in range(0, len(log), 61):
        found = refusal(with_layer(good, event_log=log[:length]))
        if found is None:  # only what leads to no quoted PCR is missing
            assert sum(counts(event, good) for event in parse_event_log(log[:length])) == needed
        seen.add(found and found.failure)
    assert seen >= {F.MALFORMED_EVENT_LOG}
    events = events_of(good)
    for at, event in enumerate(events):
        if counts(event, good):
            assert mismatches(with_events(good, events[:at]))


def test_rejects_reordered_event_log(good: EvidenceBundle) -> None:
    events, swapped = events_of(good), 0
    for at, one in enumerate(events):
        others = [n for n in range(at + 1, len(events)) if events[n].pcr == one.pcr]
        if counts(one, good) and others and events[others[0]].digest != one.digest:
            changed = list(events)
            changed[at], changed[others[0]] = events[others[0]], one
            assert mismatches(with_events(good, changed))
            swapped += 1
    assert swapped > 10


def test_rejects_events_hidden_moved_or_doubled(good: EvidenceBundle) -> None:
    events = events_of(good)
    for at, one in enumerate(events):
        if not counts(one, good):
            continue
        for instead in (
            (dataclasses.replace(one, event_type=EV_NO_ACTION),),  # extends nothing
            (dataclasses.replace(one, pcr=12 if one.pcr != 12 else 11),),
            (dataclasses.replace(one, pcr=0),),
            (one, one),
        ):
            assert mismatches(with_events(good, (*events[:at], *instead, *events[at + 1 :])))


@pytest.mark.parametrize("what", ["good", *ALTERED])
def test_retyped_events_change_no_verdict(what: str) -> None:
    """Types and data are not hashed: another type neither helps an altered boot nor harms a good one."""
    bundle = load(what)
    before = refusal(bundle)
    retyped = [
        one
        if one.event_type == EV_NO_ACTION
        else dataclasses.replace(one, event_type=EV_SEPARATOR, data=b"good")
        for one in events_of(bundle)
    ]
    after = refusal(with_events(bundle, retyped))
    assert (before and before.message) == (after and after.message)


@pytest.mark.parametrize("what", ALTERED)
def test_rejects_a_good_log_with_the_quote_of_an_altered_boot(good: EvidenceBundle, what: str) -> None:
    """Valid log, PCRs not: the machine shows the log of a boot that it did not do."""
    altered = load(what)
    assert mismatches(with_layer(altered, event_log=layer_of(good).event_log))
    mine = dataclasses.replace(layer_of(good), event_log=layer_of(altered).event_log)
    assert mismatches(dataclasses.replace(good, layers=(mine,)))


def files_of(bundle: EvidenceBundle) -> tuple[ImaEntry, ...]:
    return parse_ima_list(layer_of(bundle).ima_list)


def test_takes_a_list_that_runs_ahead_of_the_quote(good: EvidenceBundle) -> None:
    files = files_of(good)
    evil = dataclasses.replace(files[-1], digest=bytes(32), path="/tmp/evil")
    assert refusal(with_files(good, (*files, *files[-3:], evil))) is None


def test_rejects_a_list_behind_the_quote_or_with_an_entry_left_out(good: EvidenceBundle) -> None:
    files = files_of(good)
    assert len(files) > 20
    for at in range(len(files)):
        assert mismatches(with_files(good, files[:at]))
        assert mismatches(with_files(good, files[:at] + files[at + 1 :]))


def test_rejects_ima_violation() -> None:
    bundle = load(VIOLATION)
    found = refusal(bundle)
    assert found is not None
    assert found.failure is F.IMA_VIOLATION
    assert "/tmp/mapped was changed while it was measured" in found.message
    assert bundle.verdict == "ima-violation"
    files = files_of(bundle)
    (at,) = (number for number, one in enumerate(files) if one.violation)
    calm = dataclasses.replace(files[at], violation=False)
    assert mismatches(with_files(bundle, (*files[:at], calm, *files[at + 1 :])))
    assert mismatches(with_files(bundle, files[:at] + files[at + 1 :]))


def test_every_file_that_was_run_is_one_of_the_image(good: EvidenceBundle) -> None:
    document = verify_document(
        good.reference_sets[0], "reference-set", good.anchors.reference_keys, good.taken_at
    )
    names = [one.path for one in files_of(good)]
    known = {one.description for one in ReferenceSet.from_document(document).values["guest-files"]}
    assert names[0] == "boot_aggregate"
    assert set(names[1:]) <= known
    assert IMA_PCR in good.profile.selection.indices


@pytest.mark.parametrize("name", [GOOD, VIOLATION, "boot-options", *ALTERED])
def test_recordings_are_small(name: str) -> None:
    assert path_of(name).stat().st_size < 200_000
