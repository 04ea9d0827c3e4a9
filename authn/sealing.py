"""Seal the key of a gateway's state to its TPM, and get it back: the policy is `authn.state_policy`'s."""

import hashlib
import os
import struct
from dataclasses import dataclass
from typing import Any

from authn.tss import certificates_later

with certificates_later():
    from tpm2_pytss import (
        ESYS_TR,
        TPM2_ALG,
        TPM2_EO,
        TPM2_SE,
        TPM2B_OPERAND,
        TPM2B_PRIVATE,
        TPM2B_PUBLIC,
        TPM2B_SENSITIVE_CREATE,
        TPMS_SENSITIVE_CREATE,
        TPMT_PUBLIC,
        TPMT_SIGNATURE,
        TPMT_SYM_DEF,
    )

from authn.errors import TpmError
from authn.pcr import PcrSelection
from authn.state_policy import (
    DEPLOYMENT_PCR,
    IMAGE_PCRS,
    VERSION_COUNTER,
    Approval,
    seal_policy,
    signed_digest,
    version_operand,
)
from authn.tpm import AUDIT_COUNTER, Tpm

KEY_SIZE = 32
_STORAGE_KEY = "ecc256:aes128cfb"
_STORAGE_ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|decrypt"
_SEALED_ATTRIBUTES = "fixedtpm|fixedparent|noda"  # no userwithauth: the policy alone opens it
_AUTHORITY_ATTRIBUTES = 0x00040000 | 0x00000040  # sign, userWithAuth: a public key from outside


@dataclass(frozen=True, slots=True)
class SealedKey:
    """A key that only this TPM opens, under its policy: TPM2B_PUBLIC and TPM2B_PRIVATE."""

    public: bytes
    private: bytes


class Sealing:
    """Seal and unseal with one TPM."""

    def __init__(self, tpm: Tpm) -> None:
        self._tpm, self._esys = tpm, tpm.esys

    def has_signed(self) -> bool:
        """Tell whether a gateway with this TPM has signed its audit record: then there is state somewhere."""
        return self._tpm.read_counter(AUDIT_COUNTER) != 0

    def make_key(self, approval: Approval) -> tuple[bytes, SealedKey]:
        """Make a new key, from the TPM's and the kernel's random numbers, and seal it; raises TpmError."""
        random = bytes(self._tpm.call("get_random", self._esys.get_random, KEY_SIZE))
        key = hashlib.sha256(random + os.urandom(KEY_SIZE)).digest()
        if self._tpm.read_counter(VERSION_COUNTER) == 0:
            self._tpm.increment_counter(VERSION_COUNTER)  # only a written counter has the Name in the policy
        name = self._authority(approval)[1]
        policy = seal_policy(name, self._pcr(DEPLOYMENT_PCR))
        template = TPM2B_PUBLIC.parse("keyedhash", _SEALED_ATTRIBUTES, nameAlg="sha256", authPolicy=policy)
        sensitive = TPM2B_SENSITIVE_CREATE(TPMS_SENSITIVE_CREATE(data=key))
        parent = self._parent()
        private, public = self._tpm.call("seal", self._esys.create, parent, sensitive, template)[:2]
        self._esys.flush_context(parent)
        return key, SealedKey(public.marshal(), private.marshal())

    def unseal(self, sealed: SealedKey, approval: Approval) -> bytes:
        """Return the key; raises TpmError `version-too-low`, `not-approved`, `tpm-refused`."""
        least = self._tpm.read_counter(VERSION_COUNTER)
        if approval.version < least:
            raise TpmError(
                "version-too-low",
                f"this image has version {approval.version}, and the TPM opens the state from version {least} on; "
                "start the newer image",
            )
        session = self._session(approval)
        try:
            parent = self._parent()
            public, _ = TPM2B_PUBLIC.unmarshal(sealed.public)
            private, _ = TPM2B_PRIVATE.unmarshal(sealed.private)
            handle = self._tpm.call("load the sealed key", self._esys.load, parent, private, public)
            self._esys.flush_context(parent)
            try:
                return bytes(self._tpm.call("unseal", self._esys.unseal, handle, session1=session))
            finally:
                self._esys.flush_context(handle)
        finally:
            self._esys.flush_context(session)

    def raise_least_version(self, version: int) -> None:
        """Open the state to nothing below this version any more; raises TpmError."""
        while self._tpm.read_counter(VERSION_COUNTER) < version:
            self._tpm.increment_counter(VERSION_COUNTER)

    def _session(self, approval: Approval) -> Any:
        """Satisfy the policy as the machine is now."""
        call, esys = self._tpm.call, self._esys
        session = call(
            "session", esys.start_auth_session, ESYS_TR.NONE, ESYS_TR.NONE, TPM2_SE.POLICY,
            TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL), TPM2_ALG.SHA256,
        )  # fmt: skip
        image_pcrs = ",".join(map(str, IMAGE_PCRS))
        call("policy pcr of the image", esys.policy_pcr, session, b"", f"sha256:{image_pcrs}")
        counter = esys.tr_from_tpmpublic(VERSION_COUNTER)
        operand = TPM2B_OPERAND(version_operand(approval.version))
        call("policy nv", esys.policy_nv, counter, counter, session, operand, TPM2_EO.UNSIGNED_LE)
        reached, approved = bytes(esys.policy_get_digest(session)), bytes.fromhex(approval.policy)
        if reached != approved:
            raise TpmError(
                "not-approved",
                f"what was booted ({self._booted()}, version {approval.version}) is not what the authority approved: the "
                "state stays closed; start the image that was approved, as it is (quotegate image predict shows its PCRs)",
            )
        handle, name = self._authority(approval)
        ticket = call(
            "verify the approval",
            esys.verify_signature,
            handle,
            signed_digest(approved),
            _signature(approval),
        )
        esys.flush_context(handle)
        call("policy authorize", esys.policy_authorize, session, approved, name, ticket)
        call("policy pcr 7", esys.policy_pcr, session, b"", f"sha256:{DEPLOYMENT_PCR}")
        return session

    def _authority(self, approval: Approval) -> tuple[Any, bytes]:
        area, _ = TPMT_PUBLIC.unmarshal(_authority_area(bytes.fromhex(approval.public)))
        public = TPM2B_PUBLIC(area)
        handle = self._tpm.call(
            "load the authority's key", self._esys.load_external, public, None, ESYS_TR.OWNER
        )
        return handle, bytes(public.get_name())

    def _parent(self) -> Any:
        template = TPM2B_PUBLIC.parse(_STORAGE_KEY, _STORAGE_ATTRIBUTES, nameAlg="sha256")
        create = self._esys.create_primary
        return self._tpm.call(
            "create the storage key", create, TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.OWNER
        )[0]

    def _booted(self) -> str:
        values = self._tpm.read_pcrs(PcrSelection.of(IMAGE_PCRS))
        return ", ".join(f"PCR {index} {value.hex()[:16]}" for index, value in sorted(values.items()))

    def _pcr(self, index: int) -> bytes:
        return self._tpm.read_pcrs(PcrSelection.of([index]))[index]


def _authority_area(public: bytes) -> bytes:
    """Write the authority's key as TPMT_PUBLIC: ECC P-256, ECDSA with SHA-256 (Part 2, 12.2.4)."""
    head = struct.pack(">HHIH", TPM2_ALG.ECC, TPM2_ALG.SHA256, _AUTHORITY_ATTRIBUTES, 0)
    parameters = struct.pack(">HHHHH", TPM2_ALG.NULL, TPM2_ALG.ECDSA, TPM2_ALG.SHA256, 0x0003, TPM2_ALG.NULL)
    return head + parameters + b"".join(struct.pack(">H", 32) + one for one in (public[:32], public[32:]))


def _signature(approval: Approval) -> Any:
    raw = bytes.fromhex(approval.signature)
    head = struct.pack(">HH", TPM2_ALG.ECDSA, TPM2_ALG.SHA256)
    body = b"".join(struct.pack(">H", 32) + one for one in (raw[:32], raw[32:]))
    return TPMT_SIGNATURE.unmarshal(head + body)[0]
