"""The list of measured files, over the quotes of a real TPM whose PCR 10 was extended as the kernel does it."""

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authn import labels
from authn.appraisal import appraise
from authn.beacon import BeaconTracker
from authn.errors import AttestationError, AuthnError
from authn.event_log import build_event_log
from authn.failure import AttestationFailure as F
from authn.ima import ImaEntry, parse_ima_list
from authn.layers import Layer, decode_layers, encode_layers
from authn.messages import BeaconAnswer
from authn.profile import Profile
from authn.public_area import AttestationKey
from authn.quote import ExpectedQuote
from authn.reference import ReferenceEvent, ReferenceSet, check_reference
from authn.tpm import Tpm
from tests.authn.ima_lists import entry, measure
from tests.tpms import running_swtpm

pytestmark = pytest.mark.tpm
PROFILE = Profile.of("vm", {10: "ima:files"})
NONCE = b"n" * 32
INIT, SHELL = entry("/sbin/init", b"init"), entry("/bin/sh", b"shell", template=b"ima-sig")
EVIL = entry("/tmp/evil", b"evil")
BOOT = entry("boot_aggregate", b"the boot PCRs")
SET = ReferenceSet(1, 1e12, {"files": tuple(ReferenceEvent(one.path, one.digest) for one in (INIT, SHELL))})


@dataclasses.dataclass
class Machine:
    tpm: Tpm
    key: AttestationKey

    def layer(self, *entries: ImaEntry, ahead: tuple[ImaEntry, ...] = ()) -> Layer:
        measured = measure(self.tpm, *entries)
        quote = self.tpm.quote(PROFILE.selection, NONCE)
        return Layer("tpm", quote, build_event_log([]), measured + b"".join(one.encode() for one in ahead))

    def judge(self, *layers: Layer, profile: Profile = PROFILE) -> None:
        expected = ExpectedQuote(self.key, profile.selection, NONCE, {})
        check_reference(profile, appraise(layers, profile, expected).measured, [SET], now=0.0)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with running_swtpm(tmp_path) as tcti, Tpm(tcti) as tpm:
        identity = tpm.provision()
        yield Machine(tpm, AttestationKey.from_public(identity.ak_public, identity.ek_public))


def refused(failure: F) -> "pytest.RaisesExc[AttestationError]":
    return pytest.raises(AttestationError, check=lambda error: error.failure is failure)


def test_takes_known_files_in_any_order(machine: Machine) -> None:
    machine.judge(machine.layer(BOOT, SHELL, INIT, SHELL))


def test_takes_a_list_ahead_of_the_quote(machine: Machine) -> None:
    machine.judge(machine.layer(BOOT, INIT, ahead=(SHELL, EVIL)))


def test_rejects_a_list_behind_the_quote(machine: Machine) -> None:
    layer = machine.layer(BOOT, INIT, SHELL)
    shorter = layer.ima_list[: -len(SHELL.encode())]
    with refused(F.PCR_MISMATCH):
        machine.judge(dataclasses.replace(layer, ima_list=shorter))


def test_rejects_an_entry_left_out(machine: Machine) -> None:
    layer = machine.layer(INIT, EVIL, SHELL)
    with refused(F.PCR_MISMATCH):
        machine.judge(dataclasses.replace(layer, ima_list=layer.ima_list.replace(EVIL.encode(), b"")))


def test_rejects_ima_violation(machine: Machine) -> None:
    with refused(F.IMA_VIOLATION):
        machine.judge(machine.layer(BOOT, dataclasses.replace(INIT, violation=True)))


def test_rejects_a_violation_written_as_none(machine: Machine) -> None:
    layer = machine.layer(dataclasses.replace(INIT, violation=True))
    with refused(F.PCR_MISMATCH):
        machine.judge(dataclasses.replace(layer, ima_list=INIT.encode()))


def test_rejects_unknown_file_and_names_it(machine: Machine) -> None:
    with pytest.raises(AttestationError, match=r"PCR 10: /tmp/evil is not what was built"):
        machine.judge(machine.layer(BOOT, INIT, EVIL))


def test_rejects_a_changed_file_and_tells_both_digests(machine: Machine) -> None:
    changed = entry("/sbin/init", b"another init")
    with refused(F.UNKNOWN_FILE) as caught:
        machine.judge(machine.layer(changed))
    assert caught.value.params["expected"] == INIT.digest.hex()
    assert caught.value.params["got"] == changed.digest.hex()


def test_rejects_a_file_that_calls_itself_boot_aggregate(machine: Machine) -> None:
    with refused(F.UNKNOWN_FILE):
        machine.judge(machine.layer(BOOT, INIT, entry("boot_aggregate", b"evil")))


def test_rejects_unknown_layer_where_the_profile_demands_it(machine: Machine) -> None:
    profile = Profile.of("vm", {10: "ima:files"}, layers=("tpm", "host-tpm"))
    own = machine.layer(INIT)
    for layers in ((own,), (own, dataclasses.replace(own, name="host-tpm"))):
        with refused(F.UNKNOWN_LAYER):
            machine.judge(*layers, profile=profile)
    machine.judge(own, dataclasses.replace(own, name="host-tpm"))


def test_rejects_evidence_without_the_own_tpm(machine: Machine) -> None:
    with refused(F.UNKNOWN_LAYER):
        machine.judge(dataclasses.replace(machine.layer(INIT), name="host-tpm"))


def test_rejects_two_layers_of_one_name(machine: Machine) -> None:
    own = machine.layer(INIT)
    with refused(F.MALFORMED_MESSAGE):
        decode_layers(encode_layers((own, own)))
    assert decode_layers(encode_layers((own,))) == (own,)


def _tracker(machine: Machine) -> BeaconTracker:
    layer = machine.layer(BOOT, INIT)
    appraisal = appraise((layer,), PROFILE, ExpectedQuote(machine.key, PROFILE.selection, NONCE, {}))
    return BeaconTracker(
        machine.key, PROFILE.selection, appraisal.measured.pcr_values, appraisal.verified.counters, bytes(16), b"e" * 32,
        1.0, 5, os.urandom, appraisal.files, lambda measured: check_reference(PROFILE, measured, [SET], 0.0),
    )  # fmt: skip


def _answer(machine: Machine, tracker: BeaconTracker, more: bytes, now: float, late: float = 0.1) -> object:
    beacon = tracker.next_beacon(now, (1, bytes(32)), None)
    quote = machine.tpm.quote(PROFILE.selection, labels.beacon(beacon.nonce, bytes(16), b"e" * 32))
    return tracker.judge(BeaconAnswer(beacon.number, quote, bytes(32), more), now + late)


def test_a_beacon_goes_on_in_the_list(machine: Machine) -> None:
    tracker = _tracker(machine)
    assert _answer(machine, tracker, measure(machine.tpm, SHELL), 1.0) is not None
    assert _answer(machine, tracker, b"", 2.0) is not None


def test_a_piece_that_came_late_or_ahead_is_not_lost(machine: Machine) -> None:
    tracker = _tracker(machine)
    assert _answer(machine, tracker, measure(machine.tpm, SHELL), 1.0, late=0.9) is None
    assert _answer(machine, tracker, INIT.encode(), 2.0) is not None
    measure(machine.tpm, INIT)
    assert _answer(machine, tracker, b"", 3.0) is not None


def test_a_beacon_shows_an_unknown_file(machine: Machine) -> None:
    tracker = _tracker(machine)
    with refused(F.UNKNOWN_FILE):
        _answer(machine, tracker, measure(machine.tpm, EVIL), 1.0)


def test_rejects_a_beacon_that_keeps_a_file_back(machine: Machine) -> None:
    tracker = _tracker(machine)
    measure(machine.tpm, EVIL)
    with refused(F.PCR_MISMATCH):
        _answer(machine, tracker, b"", 1.0)


@pytest.mark.parametrize(
    "broken",
    [
        INIT.encode()[:-1],
        b"\x0b" + INIT.encode()[1:],
        INIT.encode().replace(b"ima-ng", b"ima-xx"),
        INIT.encode()[:4] + b"x" * 20 + INIT.encode()[24:],
        dataclasses.replace(INIT, template_data=INIT.template_data + b"\0").encode(),
        dataclasses.replace(INIT, template_data=INIT.template_data.replace(b"sha256", b"sha999")).encode(),
        dataclasses.replace(INIT, template_data=INIT.template_data.replace(b"/init", b"/i\0it")).encode(),
    ],
)
def test_rejects_malformed_ima_list(broken: bytes) -> None:
    with refused(F.MALFORMED_IMA_LIST):
        parse_ima_list(broken)


def test_reads_what_it_writes() -> None:
    entries = (BOOT, INIT, SHELL, dataclasses.replace(EVIL, violation=True))
    assert parse_ima_list(b"".join(one.encode() for one in entries)) == entries


@given(st.binary(max_size=300))
def test_any_bytes_give_entries_or_a_clear_refusal(data: bytes) -> None:
    try:
        assert b"".join(one.encode() for one in parse_ima_list(data)) == data
    except AttestationError as error:
        assert error.failure is F.MALFORMED_IMA_LIST


def test_rejects_an_ima_reference_for_another_pcr() -> None:
    with pytest.raises(AuthnError, match="PCR 10"):
        Profile.of("vm", {4: "ima:files"})
