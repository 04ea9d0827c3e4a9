"""Talk to a TPM 2.0 through tpm2-tss. Only this module and `authn.sealing` import tpm2_pytss.

It is synchronous, and for one caller at a time: `authn.tpm_worker` is for asyncio programs.
"""

import os
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from authn.tss import certificates_later

os.environ.setdefault(
    "TSS2_LOG", "all+NONE"
)  # tpm2-tss writes to stderr otherwise; errors reach us as exceptions

with certificates_later():
    from tpm2_pytss import (
        ESAPI,
        ESYS_TR,
        TPM2_ALG,
        TPM2_CAP,
        TPM2_NT,
        TPM2_SE,
        TPM2B_DATA,
        TPM2B_ENCRYPTED_SECRET,
        TPM2B_ID_OBJECT,
        TPM2B_NV_PUBLIC,
        TPM2B_PUBLIC,
        TPM2B_SENSITIVE_CREATE,
        TPMA_NV,
        TPML_DIGEST_VALUES,
        TPML_PCR_SELECTION,
        TPMS_NV_PUBLIC,
        TPMT_HA,
        TPMT_SIG_SCHEME,
        TPMT_SYM_DEF,
        TSS2_Exception,
    )

from authn.errors import TpmError
from authn.evidence import Counters, Quote
from authn.pcr import PcrSelection
from authn.public_area import key_name

EK_HANDLE, AK_HANDLE, AUDIT_COUNTER = 0x81010016, 0x81010101, 0x01500200
# TCG EK Credential Profile 2.5, template L-2: ECC P-256, PolicySecret(endorsement)
EK_POLICY = bytes.fromhex("837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa")
EK_ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|adminwithpolicy|restricted|decrypt"
# noda: a machine that loses power must not lock itself out of its own key (dictionary attack counter)
AK_ATTRIBUTES = "fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda|restricted|sign"


@dataclass(frozen=True, slots=True)
class TpmIdentity:
    """The public areas (TPMT_PUBLIC) of a TPM's endorsement and attestation key."""

    ek_public: bytes
    ak_public: bytes
    ak_name: bytes


class Tpm:
    """One connection to one TPM. Every method raises TpmError with the TPM's own words."""

    def __init__(self, tcti: str) -> None:
        try:
            self._esys = ESAPI(tcti)
        except TSS2_Exception as error:
            raise TpmError("tpm-away", f"no TPM answers at {tcti}: {error}") from error
        self._ak: Any = None

    def __enter__(self) -> "Tpm":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection."""
        self._esys.close()

    @property
    def esys(self) -> ESAPI:
        """The connection itself, for `authn.sealing`."""
        return self._esys

    def provision(self) -> TpmIdentity:
        """Create EK and AK where they are missing, make them persistent, and return both."""
        ek = self._persistent(EK_HANDLE) or self._create_ek()
        self._ak = self._persistent(AK_HANDLE) or self._create_ak(ek)
        ek_public, ak_public = self._public(ek), self._public(self._ak)
        return TpmIdentity(ek_public, ak_public, key_name(ak_public))

    def quote(self, selection: PcrSelection, qualifying_data: bytes) -> Quote:
        """Sign the selected PCRs with the AK (TPM2_Quote)."""
        try:
            attest, signature = self._esys.quote(
                self._attestation_key(),
                _selection(selection),
                TPM2B_DATA(qualifying_data),
                TPMT_SIG_SCHEME(scheme=TPM2_ALG.NULL),
            )
        except TSS2_Exception as error:
            raise _failed("quote", error) from error
        return Quote(bytes(attest.attestationData), signature.marshal())

    def read_pcrs(self, selection: PcrSelection) -> Mapping[int, bytes]:
        """Read PCR values; at most eight go into one command, so several are sent."""
        values: dict[int, bytes] = {}
        for index in selection.indices:
            _, _, digests = self.call(
                "read_pcrs", self._esys.pcr_read, _selection(PcrSelection.of([index], selection.bank))
            )
            values[index] = bytes(digests[0])
        return values

    def extend(self, index: int, digest: bytes) -> None:
        """Extend a PCR of the SHA-256 bank."""
        values = TPML_DIGEST_VALUES([TPMT_HA.unmarshal(struct.pack(">H", TPM2_ALG.SHA256) + digest)[0]])
        self.call("extend", self._esys.pcr_extend, ESYS_TR.PCR0 + index, values)

    def activate_credential(self, id_object: bytes, encrypted_secret: bytes) -> bytes:
        """Recover the secret that only a TPM with both EK and AK can (TPM2_ActivateCredential)."""
        ek = self._persistent(EK_HANDLE)
        session = self._endorsement_session()
        try:
            secret = self.call(
                "activate_credential",
                self._esys.activate_credential,
                self._attestation_key(),
                ek,
                TPM2B_ID_OBJECT(id_object),
                TPM2B_ENCRYPTED_SECRET(encrypted_secret),
                session2=session,
            )
        finally:
            self._esys.flush_context(session)
        return bytes(secret)

    def counters(self) -> Counters:
        """Read the TPM's clock and counts (TPM2_ReadClock)."""
        info = self.call("read_clock", self._esys.read_clock).clockInfo
        return Counters(int(info.clock), int(info.resetCount), int(info.restartCount), bool(info.safe))

    def increment_counter(self, index: int = AUDIT_COUNTER) -> int:
        """Add one to an NV counter, defining it first when it is not there; return its value."""
        handle = self._nv_handle(index) or self._define_counter(index)
        self.call("nv_increment", self._esys.nv_increment, handle, auth_handle=handle)
        return self._read_nv(handle)

    def read_counter(self, index: int = AUDIT_COUNTER) -> int:
        """Read an NV counter; 0 when it was never incremented."""
        handle = self._nv_handle(index)
        return 0 if handle is None or not self._written(handle) else self._read_nv(handle)

    def _written(self, handle: Any) -> bool:
        """Tell whether a counter ever counted: who lost power after defining it has nothing to read."""
        public, _ = self.call("nv_read_public", self._esys.nv_read_public, handle)
        return bool(public.nvPublic.attributes & TPMA_NV.WRITTEN)

    def _read_nv(self, handle: Any) -> int:
        (value,) = struct.unpack(
            ">Q", bytes(self.call("nv_read", self._esys.nv_read, handle, 8, auth_handle=handle))
        )
        return int(value)

    def _nv_handle(self, index: int) -> Any:
        return self._esys.tr_from_tpmpublic(index) if self._exists(index) else None

    def _define_counter(self, index: int) -> Any:
        attributes = (
            TPMA_NV.AUTHWRITE | TPMA_NV.AUTHREAD | TPMA_NV.NO_DA | TPM2_NT.COUNTER << TPMA_NV.TPM2_NT_SHIFT
        )
        public = TPMS_NV_PUBLIC(nvIndex=index, nameAlg=TPM2_ALG.SHA256, attributes=attributes, dataSize=8)
        return self.call("nv_define", self._esys.nv_define_space, None, TPM2B_NV_PUBLIC(public))

    def _exists(self, handle: int) -> bool:
        _, data = self.call("get_capability", self._esys.get_capability, TPM2_CAP.HANDLES, handle, 1)
        return [int(found) for found in data.data.handles] == [handle]

    def _persistent(self, handle: int) -> Any:
        return self._esys.tr_from_tpmpublic(handle) if self._exists(handle) else None

    def _attestation_key(self) -> Any:
        if self._ak is None:
            self._ak = self._persistent(AK_HANDLE)
            if self._ak is None:
                raise TpmError("not-provisioned", "the TPM has no attestation key; provision it first")
        return self._ak

    def _create_ek(self) -> Any:
        template = TPM2B_PUBLIC.parse(
            "ecc256:aes128cfb", EK_ATTRIBUTES, nameAlg="sha256", authPolicy=EK_POLICY
        )
        transient = self.call(
            "create EK", self._esys.create_primary, TPM2B_SENSITIVE_CREATE(), template, ESYS_TR.ENDORSEMENT
        )[0]
        return self._persist(transient, EK_HANDLE)

    def _create_ak(self, ek: Any) -> Any:
        template = TPM2B_PUBLIC.parse("ecc256:ecdsa-sha256:null", AK_ATTRIBUTES, nameAlg="sha256")
        session = self._endorsement_session()
        private, public = self.call(
            "create AK", self._esys.create, ek, TPM2B_SENSITIVE_CREATE(), template, session1=session
        )[:2]
        self._esys.flush_context(session)
        session = self._endorsement_session()
        transient = self.call("load AK", self._esys.load, ek, private, public, session1=session)
        self._esys.flush_context(session)
        return self._persist(transient, AK_HANDLE)

    def _persist(self, transient: Any, handle: int) -> Any:
        persistent = self.call("persist", self._esys.evict_control, ESYS_TR.OWNER, transient, handle)
        self._esys.flush_context(transient)
        return persistent

    def _endorsement_session(self) -> Any:
        """Open a policy session that satisfies the EK's policy: PolicySecret(endorsement)."""
        session = self.call(
            "session",
            self._esys.start_auth_session,
            ESYS_TR.NONE,
            ESYS_TR.NONE,
            TPM2_SE.POLICY,
            TPMT_SYM_DEF(algorithm=TPM2_ALG.NULL),
            TPM2_ALG.SHA256,
        )
        self.call("policy", self._esys.policy_secret, ESYS_TR.ENDORSEMENT, session, b"", b"", b"", 0)
        return session

    def _public(self, handle: Any) -> bytes:
        public = self.call("read_public", self._esys.read_public, handle)[0]
        return bytes(public.publicArea.marshal())

    @staticmethod
    def call(what: str, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Run one command; raises TpmError that says which."""
        try:
            return function(*arguments, **named)
        except TSS2_Exception as error:
            raise _failed(what, error) from error


def _failed(what: str, error: Exception) -> TpmError:
    return TpmError("tpm-refused", f"the TPM refused {what}: {error}")


def _selection(selection: PcrSelection) -> Any:
    return TPML_PCR_SELECTION.parse(str(selection))
