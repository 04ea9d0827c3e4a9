"""Impostor: a program in the victim's own place, without its TPM, speaks in the victim's name.

python -m tests.attackers.impostor VICTIM_SETUP AK_NAME
"""

import os
import sys
from collections.abc import Callable

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from tests.attackers.attempt import attempt, say
from tests.foreign.appraisal import qualified_name
from tests.foreign.handshake import Handshake
from tests.foreign.setup import Setup
from tests.foreign.tpm import Tpm
from tests.foreign.wire import M3, H, Quote, Records, Wire, blob, label, u16, u32, u64


class NoTpm(Tpm):
    """Nobody's TPM."""

    def __init__(self) -> None:
        pass


def forged_quote(setup: Setup, data: bytes) -> Quote:
    """A quote that only lacks the right signature."""
    signer = qualified_name(setup.gateway.ak_public, setup.gateway.ek_public)
    digest = H(b"")
    attest = b"\xffTCG\x80\x18" + u16(len(signer)) + signer + u16(32) + data
    attest += u64(1) + u32(1) + u32(0) + b"\1" + u64(0) + setup.selection + u16(32) + digest
    signature = ec.generate_private_key(ec.SECP256R1()).sign(attest, ec.ECDSA(hashes.SHA256()))
    r, s = (number.to_bytes(32, "big") for number in utils.decode_dss_signature(signature))
    return attest, u16(0x0018) + u16(0x000B) + u16(32) + r + u16(32) + s


def no_keys(handshake: Handshake) -> bytes:
    """m3 of random bytes."""
    return os.urandom(400)


def no_mac(handshake: Handshake) -> bytes:
    """m3 with good evidence's form and a MAC of random bytes."""
    quote = forged_quote(handshake.setup, label("peer", blob(handshake.th2)))
    return Records(handshake.secrets["peer"]).seal(blob(handshake.evidence(quote)) + blob(os.urandom(32)))


def no_signature(handshake: Handshake) -> bytes:
    """m3 that is right in everything but the key that signed."""
    quote = forged_quote(handshake.setup, label("peer", blob(handshake.th2)))
    return handshake.m3(handshake.evidence(quote))


def impersonate(setup: Setup, ak_name: bytes, m3: Callable[[Handshake], bytes], link: Wire) -> None:
    handshake = Handshake(setup, NoTpm(), link)
    handshake.send_m1(ak=ak_name)
    handshake.take_m2()
    link.send(M3, m3(handshake))
    link.receive()


def main() -> None:
    setup, ak_name = Setup(sys.argv[1]), bytes.fromhex(sys.argv[2])
    for m3 in (no_keys, no_mac, no_signature):
        answer = attempt(setup, lambda link, m3=m3: impersonate(setup, ak_name, m3, link))
        say(attack=m3.__name__.replace("_", "-"), answer=answer)


if __name__ == "__main__":
    main()
