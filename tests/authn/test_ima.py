"""The list of measured files, over the quotes of a real TPM whose PCR 10 was extended as the kernel does it."""

import dataclasses
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authn.errors import AttestationError, AuthnError
from authn.failure import AttestationFailure as F
from authn.ima import MAX_AHEAD, MAX_NAME, ImaEntry, parse_ima_list
from authn.layers import decode_layers, encode_layers
from authn.profile import Profile
from tests.authn.ima_lists import (
    BOOT,
    EVIL,
    INIT,
    SHELL,
    Machine,
    entry,
)
from tests.authn.refusals import refused

pytestmark = pytest.mark.tpm


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


@pytest.mark.parametrize("before", [(BOOT,), ()], ids=["a file", "called like the boot aggregate"])
def test_rejects_ima_violation(machine: Machine, before: tuple[ImaEntry, ...]) -> None:
    with refused(F.IMA_VIOLATION):
        machine.judge(machine.layer(*before, dataclasses.replace(INIT if before else BOOT, violation=True)))


def test_rejects_a_violation_written_as_none(machine: Machine) -> None:
    layer = machine.layer(dataclasses.replace(INIT, violation=True))
    with refused(F.PCR_MISMATCH):
        machine.judge(dataclasses.replace(layer, ima_list=INIT.encode()))


CHANGED = entry("/sbin/init", b"another init")
DISGUISED = entry("boot_aggregate", b"evil")


@pytest.mark.parametrize("before", [(BOOT, SHELL), (BOOT,)], ids=["behind another", "first of all"])
@pytest.mark.parametrize(
    ("file", "expected"),
    [(EVIL, "a file of the image"), (CHANGED, INIT.digest.hex()), (DISGUISED, "a file of the image")],
)
def test_rejects_unknown_file(
    machine: Machine, file: ImaEntry, expected: str, before: tuple[ImaEntry, ...]
) -> None:
    """The refusal names the file and both digests."""
    with refused(F.UNKNOWN_FILE) as caught:
        machine.judge(machine.layer(*before, file))
    assert f"PCR 10: {file.path} is not what was built" in caught.value.message
    assert (caught.value.params["expected"], caught.value.params["got"]) == (expected, file.digest.hex())


def test_rejects_unknown_layer_where_the_profile_demands_it(machine: Machine) -> None:
    profile = Profile.of("vm", {10: "ima:files"}, layers=("tpm", "host-tpm"))
    own = machine.layer(INIT)
    host = dataclasses.replace(own, name="host-tpm")
    for layers in ((own,), (own, host)):
        with refused(F.UNKNOWN_LAYER):
            machine.judge(*layers, profile=profile)
    with refused(F.UNKNOWN_LAYER):
        machine.judge(host)
    machine.judge(own, host)


def test_rejects_two_layers_of_one_name(machine: Machine) -> None:
    own = machine.layer(INIT)
    with refused(F.MALFORMED_MESSAGE):
        decode_layers(encode_layers((own, own)))
    assert decode_layers(encode_layers((own,))) == (own,)


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


@pytest.mark.parametrize("name", [b"x" * MAX_NAME, b"\xff" * (1 << 20)])
def test_rejects_a_longer_name_than_the_kernel_writes(name: bytes) -> None:
    field = INIT.template_data[:44]
    data = field + struct.pack("<I", len(name) + 1) + name + b"\0"
    with refused(F.MALFORMED_IMA_LIST):
        parse_ima_list(dataclasses.replace(INIT, template_data=data).encode())
    longest = field + struct.pack("<I", MAX_NAME) + b"x" * (MAX_NAME - 1) + b"\0"
    assert len(parse_ima_list(dataclasses.replace(INIT, template_data=longest).encode())) == 1


def test_rejects_a_list_that_is_padded_behind_the_quote(machine: Machine) -> None:
    some = (EVIL,) * (MAX_AHEAD // EVIL.size)
    layer = machine.layer(BOOT, INIT, ahead=some)
    machine.judge(layer)
    with refused(F.MALFORMED_IMA_LIST):
        machine.judge(dataclasses.replace(layer, ima_list=layer.ima_list + EVIL.encode()))


def test_reads_what_it_writes() -> None:
    entries = (BOOT, INIT, SHELL, dataclasses.replace(EVIL, violation=True))
    assert parse_ima_list(b"".join(one.encode() for one in entries)) == entries
    assert all(len(one.encode()) == one.size for one in entries)


@given(st.binary(max_size=300))
def test_any_bytes_give_entries_or_a_clear_refusal(data: bytes) -> None:
    try:
        assert b"".join(one.encode() for one in parse_ima_list(data)) == data
    except AttestationError as error:
        assert error.failure is F.MALFORMED_IMA_LIST


def test_rejects_an_ima_reference_for_another_pcr() -> None:
    with pytest.raises(AuthnError, match="PCR 10"):
        Profile.of("vm", {4: "ima:files"})
