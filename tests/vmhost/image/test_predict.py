import hashlib
import struct

import pytest

from tests.vmhost.image.programs import MAGIC, efi_program, small_uki
from vmhost.errors import HostError
from vmhost.image.pe import PeFile
from vmhost.image.predict import predict


def _digests(image: bytes, pcr: int) -> dict[str, bytes]:
    return {event.description: event.digest for event in predict(image)[pcr]}


def test_predicts_what_the_firmware_and_the_stub_measure() -> None:
    image = small_uki("quiet", b"an initrd")
    assert _digests(image, 4)["the image"] == PeFile(image).authenticode()
    assert _digests(image, 9) == {
        "command line": hashlib.sha256("quiet\0".encode("utf-16-le")).digest(),
        "initrd": hashlib.sha256(b"an initrd").digest(),
    }
    sections = _digests(image, 11)
    assert sections["section .cmdline"] == hashlib.sha256(b"quiet").digest()
    assert sections["name of section .cmdline"] == hashlib.sha256(b".cmdline\0").digest()
    assert predict(image)[12] == ()


def _changed(one: bytes, other: bytes) -> set[tuple[int, str]]:
    return {
        (pcr, event.description)
        for pcr, events in predict(one).items()
        for event in events
        if event not in predict(other)[pcr]
    }


def test_an_altered_initrd_shows_by_name() -> None:
    changed = _changed(small_uki(), small_uki(initrd=b"another one"))
    assert changed == {(4, "the image"), (9, "initrd"), (11, "section .initrd")}


def test_an_altered_command_line_shows_by_name() -> None:
    changed = _changed(small_uki(), small_uki("quiet systemd.debug-shell"))
    assert changed == {(4, "the image"), (9, "command line"), (11, "section .cmdline")}


@pytest.mark.parametrize("missing", [".linux", ".initrd", ".cmdline"])
def test_rejects_an_image_without_a_part(missing: str) -> None:
    parts = {".sdmagic": MAGIC, ".linux": efi_program({}), ".initrd": b"i", ".cmdline": b"c"}
    with pytest.raises(HostError, match=missing):
        predict(efi_program({name: data for name, data in parts.items() if name != missing}))


def test_rejects_a_command_line_that_is_not_ascii() -> None:
    with pytest.raises(HostError, match="ASCII at 5"):
        predict(small_uki("quiet\N{SNOWMAN}"))


@pytest.mark.parametrize(
    ("magic", "named"),
    [
        (b"#### LoaderInfo: systemd-stub 257.8-1 ####\0", "systemd-stub 257.8-1"),
        (b"#### LoaderInfo: systemd-boot 252 ####\0", "systemd-boot 252"),
        (b"", "none that says so"),
    ],
)
def test_rejects_another_stub_and_says_which_to_take(magic: bytes, named: str) -> None:
    with pytest.raises(HostError) as raised:
        predict(small_uki(magic=magic))
    assert raised.value.code == "unknown-stub"
    assert f"expected systemd-stub 252, got {named}; build it around Debian 12's" in raised.value.message


@pytest.mark.parametrize("section", ["pcrsig", "pcrpkey"])
def test_rejects_an_image_whose_stub_would_add_an_initrd(section: str) -> None:
    with pytest.raises(HostError, match=rf"got \.{section}; build it without PCR signatures"):
        predict(small_uki(**{section: b"{}"}))


def test_sections_that_the_stub_does_not_measure_change_the_image_alone() -> None:
    assert _changed(small_uki(uname=b"6.1.0"), small_uki(uname=b"6.1.1")) == {(4, "the image")}


@pytest.mark.parametrize("name", ["cmdlineX", "dtbauto"])
def test_rejects_sections_whose_names_the_stub_takes_for_one(name: str) -> None:
    """systemd-stub 252 compares the beginnings of names alone, and takes the last section that fits."""
    with pytest.raises(
        HostError, match=rf"expected one that begins with \.\w+, got .*'\.{name[:7]}'"
    ) as refused:
        predict(small_uki(**{name: b"init=/bin/sh"}))
    assert refused.value.code == "bad-uki"


def test_rejects_a_section_that_is_there_twice() -> None:
    twice = bytearray(small_uki(cmdlin2=b"init=/bin/sh"))
    at = next(one.header for one in PeFile(bytes(twice)).sections if one.name == ".cmdlin2")
    twice[at : at + 8] = b".cmdline"
    with pytest.raises(HostError, match=r"got '\.cmdline', '\.cmdline': the stub would take the last"):
        predict(bytes(twice))


@pytest.mark.parametrize("size", [0, 513])
def test_rejects_a_section_that_memory_has_otherwise_than_the_file(size: int) -> None:
    """The stub leaves out what is empty, and measures zeros behind what is short."""
    image = bytearray(small_uki())
    section = PeFile(bytes(image)).section(".cmdline")
    assert section is not None
    struct.pack_into("<I", image, section.header + 8, size)
    with pytest.raises(HostError, match=rf"size of section \.cmdline: expected 1 to 512 bytes.*got {size};"):
        predict(bytes(image))


def test_rejects_a_kernel_that_is_no_program_and_says_which_part() -> None:
    parts = {".sdmagic": MAGIC, ".linux": b"no program", ".initrd": b"i", ".cmdline": b"c"}
    with pytest.raises(HostError, match=r"checked section \.linux: expected a kernel"):
        predict(efi_program(parts))
