import hashlib
import struct

import pytest

from tests.vmhost.image.programs import HEADERS, SIGNATURE, efi_program, small_uki
from vmhost.errors import HostError
from vmhost.image.pe import PeFile, without_times

CHECKSUM = SIGNATURE + 24 + 64


def test_reads_what_a_section_holds_without_its_padding() -> None:
    program = PeFile(efi_program({".a": b"first", ".b": b"second"}))
    assert (program.content(".a"), program.content(".b"), program.content(".c")) == (
        b"first",
        b"second",
        None,
    )


def test_hashes_all_but_checksum_and_certificates() -> None:
    plain, signed = efi_program({".a": b"x"}), efi_program({".a": b"x"}, 0, b"a signature of somebody")
    assert PeFile(plain).authenticode() == PeFile(signed).authenticode()
    stamped = bytearray(plain)
    stamped[CHECKSUM : CHECKSUM + 4] = b"\1\2\3\4"
    assert PeFile(bytes(stamped)).authenticode() == PeFile(plain).authenticode()
    # by the definition: the headers up to the checksum, up to the table's entry, the rest, the sections
    entry = SIGNATURE + 24 + 144
    parts = (plain[:CHECKSUM], plain[CHECKSUM + 4 : entry], plain[entry + 8 : HEADERS], plain[HEADERS:])
    assert PeFile(plain).authenticode() == hashlib.sha256(b"".join(parts)).digest()


@pytest.mark.parametrize("at", [SIGNATURE + 8, HEADERS + 3])
def test_one_byte_changes_the_hash(at: int) -> None:
    plain = efi_program({".a": b"content"})
    changed = bytearray(plain)
    changed[at] ^= 1
    assert PeFile(bytes(changed)).authenticode() != PeFile(plain).authenticode()


def test_programs_that_differ_in_their_times_alone_become_equal() -> None:
    first, second = small_uki(stamp=1), small_uki(stamp=2)
    assert first != second
    assert without_times(first) == without_times(second)


def test_rejects_what_is_no_program() -> None:
    good = efi_program({".a": b"x"})
    outside = bytearray(good)
    struct.pack_into("<I", outside, SIGNATURE + 24 + 240 + 20, 1 << 30)
    for bad in (b"", b"MZ", bytes(4096), good[:200], bytes(outside)):
        with pytest.raises(HostError) as refused:
            PeFile(bad)
        assert refused.value.code == "bad-pe"


def test_rejects_sections_over_each_other() -> None:
    """Many headers that name the whole file would take minutes to hash."""
    overlapping = bytearray(efi_program({".a": b"x", ".b": b"y"}))
    for number in range(2):
        at = SIGNATURE + 24 + 240 + 40 * number
        struct.pack_into("<II", overlapping, at + 16, len(overlapping), 0)
    with pytest.raises(HostError, match="sections lie over each other") as refused:
        PeFile(bytes(overlapping))
    assert refused.value.code == "bad-pe"


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (b"", "its 0 bytes end in the middle of its headers"),
        (efi_program({"\xe4": b"x"}), r"section names in ASCII, got b'\\xc3\\xa4'"),
    ],
    ids=["empty", "name"],
)
def test_rejects_a_program_that_is_cut_or_named_oddly_in_words(bad: bytes, why: str) -> None:
    with pytest.raises(HostError, match=f"not an EFI program: .*{why}"):
        PeFile(bad)
