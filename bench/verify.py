"""How fast quotes are verified on one core, beside the bare ECDSA verification in it."""

import time
from pathlib import Path
from tempfile import TemporaryDirectory

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from authn.pcr import PcrSelection
from authn.public_area import AttestationKey
from authn.quote import ExpectedQuote, verify_quote
from authn.tpm import Tpm
from bench.stats import Figure
from tests.tpms import running_swtpm

COUNT = 2000


def measure(rounds: int) -> list[Figure]:
    """Verify one real quote again and again; about 1 s a round."""
    selection = PcrSelection.of([4, 7, 9, 10])
    with (
        TemporaryDirectory(prefix="qg-bench-") as directory,
        running_swtpm(Path(directory)) as tcti,
        Tpm(tcti) as tpm,
    ):
        identity = tpm.provision()
        key = AttestationKey.from_public(identity.ak_public, identity.ek_public)
        expected = ExpectedQuote(
            key, selection, b"n" * 32, tpm.read_pcrs(selection), tpm.counters(), same_boot=True
        )
        quote = tpm.quote(selection, b"n" * 32)
    half = (len(quote.signature) - 4) // 2
    r, s = (int.from_bytes(quote.signature[at + 2 : at + half], "big") for at in (4, 4 + half))
    signature, algorithm = encode_dss_signature(r, s), ec.ECDSA(hashes.SHA256())
    full, bare = [], []
    for _ in range(rounds):
        begun = time.process_time()
        for _ in range(COUNT):
            key.key.verify(signature, quote.attest, algorithm)
        middle = time.process_time()
        for _ in range(COUNT):
            verify_quote(quote, expected)
        bare.append(COUNT / (middle - begun))
        full.append(COUNT / (time.process_time() - middle))
    return [
        Figure(
            "full quote verifications per second and core",
            "1/s",
            full,
            "bare ECDSA verify, 1/s",
            bare,
            3000,
            True,
            False,
        )
    ]
