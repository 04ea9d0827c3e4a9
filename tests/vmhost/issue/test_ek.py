"""An endorsement key in each of the forms that tools write it in."""

import struct
from pathlib import Path

import pytest

from authn.public_area import check_ek
from vmhost.errors import HostError
from vmhost.issue.ek import read_ek

# of a swtpm: ECC P-256, the policy of template L-2
EK = bytes.fromhex(
    "0023000b000300b20020837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa000600800043001000030010"
    "002068869702254bf5f224ae90855607a25ba09ff9531b445c6d582fad6b0981d97f00208d2974e0b9eb1e9ceb1123e09555e590700b"
    "7d2c5a75cdb0130b213c1f1165ef"
)
SIZED = struct.pack(">H", len(EK)) + EK
FORMS = {
    "hex": EK.hex().encode(),
    "a line of hex": EK.hex().upper().encode() + b"\n",
    "TPMT_PUBLIC": EK,
    "TPM2B_PUBLIC": SIZED,
    "TPM2B_PUBLIC in hex": SIZED.hex().encode(),
}


@pytest.mark.parametrize("form", FORMS)
def test_reads_every_form(form: str, tmp_path: Path) -> None:
    (path := tmp_path / "ek").write_bytes(FORMS[form])
    assert read_ek(path) == EK
    check_ek(read_ek(path))


SIGNING = EK[:4] + struct.pack(">I", 0x00050472) + EK[8:]  # the attributes of a key that signs
REFUSED = {
    "nothing": b"",
    "a PEM file": b"-----BEGIN PUBLIC KEY-----\n",
    "half of it": EK[:50],
    "bytes behind it": EK + b"\0",
    "a size that is not its own": struct.pack(">H", len(EK) + 1) + EK,
    "an attestation key": SIGNING,
    "hex with a letter too many": EK.hex().encode() + b"g",
}


@pytest.mark.parametrize("how", REFUSED)
def test_rejects_what_is_no_endorsement_key(how: str, tmp_path: Path) -> None:
    (path := tmp_path / "ek").write_bytes(REFUSED[how])
    with pytest.raises(
        HostError, match=r"have the machine write it: quotegate-agent identity >ek\.hex"
    ) as raised:
        read_ek(path)
    assert raised.value.code == "bad-ek"
