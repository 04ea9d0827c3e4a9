"""Make a real TPM do what an honest agent never asks of it: odd selections, other keys, other algorithms, resets."""

import struct
from typing import Any

from tpm2_pytss import (
    ESAPI,
    ESYS_TR,
    TPM2_ALG,
    TPM2_ST,
    TPM2B_DATA,
    TPM2B_PUBLIC,
    TPM2B_SENSITIVE_CREATE,
    TPML_PCR_SELECTION,
    TPMT_SIG_SCHEME,
    TPMT_TK_HASHCHECK,
)

from authn.evidence import Quote
from authn.pcr import PcrSelection
from authn.tpm import AK_ATTRIBUTES, AK_HANDLE, Tpm

UNRESTRICTED = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|sign"


class RogueTpm:
    """The same TPM, driven by its machine's root."""

    def __init__(self, tpm: Tpm) -> None:
        self._esys: ESAPI = tpm._esys

    def ak(self) -> Any:
        """Return the enrolled attestation key."""
        return self._esys.tr_from_tpmpublic(AK_HANDLE)

    def quote(self, key: Any, selection: bytes | PcrSelection, data: bytes, scheme: Any = None) -> Quote:
        """Quote with any key over any TPML_PCR_SELECTION."""
        raw = selection if isinstance(selection, bytes) else selection.encode()
        attest, signature = self._esys.quote(
            key, TPML_PCR_SELECTION.unmarshal(raw)[0], TPM2B_DATA(data),
            scheme or TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL),
        )  # fmt: skip
        return Quote(bytes(attest.attestationData), signature.marshal())

    def primary(self, algorithm: str, attributes: str = AK_ATTRIBUTES) -> tuple[Any, bytes]:
        """Make a key right under the owner hierarchy; return it and its public area."""
        template = TPM2B_PUBLIC.parse(algorithm, attributes, nameAlg="sha256")
        handle, public = self._esys.create_primary(TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.OWNER)[:2]
        return handle, bytes(public.publicArea.marshal())

    def sign_anything(self, key: Any, attest: bytes) -> Quote:
        """Sign bytes of one's own making with an unrestricted key (TPM2_Sign asks no ticket for it)."""
        digest, ticket = self._esys.hash(attest, TPM2_ALG.SHA256, ESYS_TR.OWNER)
        signature = self._esys.sign(key, digest, TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), ticket)
        return Quote(attest, signature.marshal())

    def try_to_sign_a_forged_quote(self, attest: bytes) -> Quote:
        """Ask the restricted AK itself: the TPM refuses, because the bytes begin like its own."""
        digest, _ = self._esys.hash(attest, TPM2_ALG.SHA256, ESYS_TR.OWNER)
        ticket = TPMT_TK_HASHCHECK(tag=TPM2_ST.HASHCHECK, hierarchy=ESYS_TR.OWNER)
        signature = self._esys.sign(self.ak(), digest, TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL), ticket)
        return Quote(attest, signature.marshal())

    def certify_clock(self, data: bytes) -> Quote:
        """Have the AK sign another kind of attestation: TPM2_GetTime."""
        attest, signature = self._esys.get_time(
            self.ak(), TPM2B_DATA(data), TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL)
        )
        return Quote(bytes(attest.attestationData), signature.marshal())

    def reset_pcr(self, index: int) -> None:
        """Reset a PCR (TPM2_PCR_Reset): 16 and 23 let the guest do that."""
        self._esys.pcr_reset(ESYS_TR.PCR0 + index)

    def forget(self, handle: Any) -> None:
        """Free a transient key's slot."""
        self._esys.flush_context(handle)


def empty_selection() -> bytes:
    """Select from no bank at all."""
    return struct.pack(">I", 0)


def duplicate_selection(selection: PcrSelection) -> bytes:
    """Name the same bank twice."""
    return struct.pack(">I", 2) + selection.encode()[4:] * 2
