import datetime as dt
import os

import pytest

from authn.ek_certificate import CertificateAuthority
from authn.enrollment import EnrollmentClient, EnrollmentVerifier
from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.tpm import Tpm, TpmIdentity

pytestmark = pytest.mark.tpm
NOW = dt.datetime(2026, 11, 23, 12, tzinfo=dt.UTC)
UUID = "0f0e0d0c-0000-4000-8000-000000000001"


@pytest.fixture(scope="module")
def authority() -> CertificateAuthority:
    return CertificateAuthority.create("test CA", NOW, 30)


def _verifier(authority: CertificateAuthority, now: dt.datetime = NOW) -> EnrollmentVerifier:
    return EnrollmentVerifier([authority.certificate], now, os.urandom)


def _client(authority: CertificateAuthority, identity: TpmIdentity, days: int = 10) -> EnrollmentClient:
    certificate = authority.issue(identity.ek_public, "web", UUID, NOW, days)
    return EnrollmentClient("lab/web", certificate, identity.ek_public, identity.ak_public)


def _refused(failure: AttestationFailure) -> "pytest.RaisesExc[AttestationError]":
    return pytest.raises(AttestationError, check=lambda error: error.failure is failure)


def test_enrolls_a_real_tpm(authority: CertificateAuthority, tpm: Tpm, identity: TpmIdentity) -> None:
    verifier, client = _verifier(authority), _client(authority, identity)
    e2 = verifier.receive_hello(client.hello())
    enrolled = verifier.receive_proof(client.proof(e2, tpm.activate_credential))
    assert (enrolled.peer_id, enrolled.uuid, enrolled.ak_public) == ("lab/web", UUID, identity.ak_public)


def test_rejects_a_wrong_credential_and_gives_no_second_try(
    authority: CertificateAuthority, tpm: Tpm, identity: TpmIdentity
) -> None:
    verifier, client = _verifier(authority), _client(authority, identity)
    e2 = verifier.receive_hello(client.hello())
    with _refused(AttestationFailure.WRONG_CREDENTIAL):
        verifier.receive_proof(client.proof(e2, lambda *_: bytes(32)))
    with _refused(AttestationFailure.WRONG_CREDENTIAL):
        verifier.receive_proof(client.proof(e2, tpm.activate_credential))


def test_rejects_certificate_of_another_ca(authority: CertificateAuthority, identity: TpmIdentity) -> None:
    foreign = CertificateAuthority.create("test CA", NOW, 30)
    with _refused(AttestationFailure.UNTRUSTED_EK):
        _verifier(authority).receive_hello(_client(foreign, identity).hello())


def test_rejects_expired_certificate(authority: CertificateAuthority, identity: TpmIdentity) -> None:
    later = NOW + dt.timedelta(days=11)
    with _refused(AttestationFailure.UNTRUSTED_EK):
        _verifier(authority, later).receive_hello(_client(authority, identity).hello())


def test_rejects_ek_of_another_machine(
    authority: CertificateAuthority, identity: TpmIdentity, tmp_path_factory
) -> None:
    from tests.tpms import running_swtpm

    with running_swtpm(tmp_path_factory.mktemp("other")) as tcti, Tpm(tcti) as other:
        foreign = other.provision()
    certificate = authority.issue(foreign.ek_public, "web", UUID, NOW, 10)
    client = EnrollmentClient("lab/web", certificate, identity.ek_public, identity.ak_public)
    with _refused(AttestationFailure.WRONG_EK):
        _verifier(authority).receive_hello(client.hello())


def test_rejects_an_ek_offered_as_ak(authority: CertificateAuthority, identity: TpmIdentity) -> None:
    certificate = authority.issue(identity.ek_public, "web", UUID, NOW, 10)
    client = EnrollmentClient("lab/web", certificate, identity.ek_public, identity.ek_public)
    with _refused(AttestationFailure.WRONG_KEY_ATTRIBUTES):
        _verifier(authority).receive_hello(client.hello())


def test_rejects_truncated_hello(authority: CertificateAuthority, identity: TpmIdentity) -> None:
    with _refused(AttestationFailure.MALFORMED_MESSAGE):
        _verifier(authority).receive_hello(_client(authority, identity).hello()[:-1])
