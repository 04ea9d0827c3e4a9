import datetime as dt
import os
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from authn.ek_certificate import EK_USAGE, CertificateAuthority
from authn.enrollment import EnrollmentClient, EnrollmentVerifier
from authn.errors import AuthnError, TpmError
from authn.failure import AttestationFailure
from authn.fields import Writer
from authn.tpm import Tpm, TpmIdentity
from tests.authn.refusals import refused
from tests.tpms import running_swtpm

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
    with refused(AttestationFailure.WRONG_CREDENTIAL):
        verifier.receive_proof(client.proof(e2, lambda *_: bytes(32)))
    with refused(AttestationFailure.WRONG_CREDENTIAL):
        verifier.receive_proof(client.proof(e2, tpm.activate_credential))


def test_rejects_a_certificate_of_an_unknown_version(
    authority: CertificateAuthority, identity: TpmIdentity
) -> None:
    """Found by fuzzing: the library's error for it is no ValueError."""
    client = _client(authority, identity)
    hello = client.hello()
    version_3 = bytes.fromhex("a003020102")
    assert version_3 in hello
    with refused(AttestationFailure.UNTRUSTED_EK):
        _verifier(authority).receive_hello(hello.replace(version_3, bytes.fromhex("a003020108")))


def test_rejects_certificate_of_another_ca(authority: CertificateAuthority, identity: TpmIdentity) -> None:
    foreign = CertificateAuthority.create("test CA", NOW, 30)
    with refused(AttestationFailure.UNTRUSTED_EK):
        _verifier(authority).receive_hello(_client(foreign, identity).hello())


def test_rejects_expired_certificate(authority: CertificateAuthority, identity: TpmIdentity) -> None:
    later = NOW + dt.timedelta(days=11)
    with refused(AttestationFailure.UNTRUSTED_EK):
        _verifier(authority, later).receive_hello(_client(authority, identity).hello())


def test_rejects_ek_of_another_machine(
    authority: CertificateAuthority, identity: TpmIdentity, tmp_path: Path
) -> None:
    with running_swtpm(tmp_path) as tcti, Tpm(tcti) as other:
        foreign = other.provision()
    certificate = authority.issue(foreign.ek_public, "web", UUID, NOW, 10)
    client = EnrollmentClient("lab/web", certificate, identity.ek_public, identity.ak_public)
    with refused(AttestationFailure.WRONG_EK):
        _verifier(authority).receive_hello(client.hello())


def _certificate(
    authority: CertificateAuthority,
    identity: TpmIdentity,
    usage: x509.ObjectIdentifier,
    issuer_is_ca: bool = True,
) -> tuple[bytes, CertificateAuthority]:
    """Issue a certificate that is wrong in one way."""
    good = x509.load_der_x509_certificate(authority.issue(identity.ek_public, "web", UUID, NOW, 10))
    root = authority.certificate
    if not issuer_is_ca:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = _copy(root, key.public_key(), {x509.BasicConstraints: x509.BasicConstraints(False, None)})
        authority = CertificateAuthority(builder.sign(key, hashes.SHA256()), key)
    changes = {x509.ExtendedKeyUsage: x509.ExtendedKeyUsage([usage])}
    changed = _copy(good, good.public_key(), changes).sign(authority.key, hashes.SHA256())
    return changed.public_bytes(serialization.Encoding.DER), authority


def _copy(
    one: x509.Certificate, key: object, changes: dict[type[x509.ExtensionType], x509.ExtensionType]
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().subject_name(one.subject).issuer_name(one.issuer).public_key(key)
    builder = builder.serial_number(7).not_valid_before(one.not_valid_before_utc)
    builder = builder.not_valid_after(one.not_valid_after_utc)
    for extension in one.extensions:
        builder = builder.add_extension(
            changes.get(type(extension.value), extension.value), extension.critical
        )
    return builder


def test_rejects_wrong_eku(authority: CertificateAuthority, identity: TpmIdentity) -> None:
    certificate, _ = _certificate(authority, identity, ExtendedKeyUsageOID.SERVER_AUTH)
    client = EnrollmentClient("lab/web", certificate, identity.ek_public, identity.ak_public)
    with refused(AttestationFailure.UNTRUSTED_EK):
        _verifier(authority).receive_hello(client.hello())


def test_rejects_a_certificate_not_valid_yet(authority: CertificateAuthority, identity: TpmIdentity) -> None:
    with refused(AttestationFailure.UNTRUSTED_EK):
        _verifier(authority, NOW - dt.timedelta(days=1)).receive_hello(_client(authority, identity).hello())


def test_rejects_an_issuer_that_is_no_ca(authority: CertificateAuthority, identity: TpmIdentity) -> None:
    certificate, issuer = _certificate(authority, identity, EK_USAGE, issuer_is_ca=False)
    client = EnrollmentClient("lab/web", certificate, identity.ek_public, identity.ak_public)
    with refused(AttestationFailure.UNTRUSTED_EK):
        _verifier(issuer).receive_hello(client.hello())


def test_rejects_an_ak_of_another_tpm(
    authority: CertificateAuthority, tpm: Tpm, identity: TpmIdentity, tmp_path: Path
) -> None:
    """The EK is real and its own; the AK is another TPM's: this TPM can't open a credential for it."""
    with running_swtpm(tmp_path) as tcti, Tpm(tcti) as other:
        foreign = other.provision()
    certificate = authority.issue(identity.ek_public, "web", UUID, NOW, 10)
    client = EnrollmentClient("lab/web", certificate, identity.ek_public, foreign.ak_public)
    e2 = _verifier(authority).receive_hello(client.hello())
    with pytest.raises(TpmError):
        client.proof(e2, tpm.activate_credential)


@pytest.mark.parametrize("sizes", [(132, 512), (133, 68), (68, 513), (1024, 1024), (0, 0)])
def test_rejects_a_credential_that_no_tpm_made(
    authority: CertificateAuthority, tpm: Tpm, identity: TpmIdentity, sizes: tuple[int, int]
) -> None:
    """Whoever stands in for a gateway may send one: an agent must live through it."""
    e2 = Writer().blob(bytes(sizes[0])).blob(bytes(sizes[1])).finish()
    with pytest.raises(AuthnError):
        _client(authority, identity).proof(e2, tpm.activate_credential)


def test_rejects_an_ek_offered_as_ak(authority: CertificateAuthority, identity: TpmIdentity) -> None:
    certificate = authority.issue(identity.ek_public, "web", UUID, NOW, 10)
    client = EnrollmentClient("lab/web", certificate, identity.ek_public, identity.ek_public)
    with refused(AttestationFailure.WRONG_KEY_ATTRIBUTES):
        _verifier(authority).receive_hello(client.hello())


def test_rejects_a_peer_id_that_is_no_printable_words(
    authority: CertificateAuthority, identity: TpmIdentity
) -> None:
    certificate = authority.issue(identity.ek_public, "web", UUID, NOW, 10)
    client = EnrollmentClient("lab/web\x1b[2J", certificate, identity.ek_public, identity.ak_public)
    with refused(AttestationFailure.MALFORMED_MESSAGE):
        _verifier(authority).receive_hello(client.hello())


def test_rejects_truncated_hello(authority: CertificateAuthority, identity: TpmIdentity) -> None:
    with refused(AttestationFailure.MALFORMED_MESSAGE):
        _verifier(authority).receive_hello(_client(authority, identity).hello()[:-1])
