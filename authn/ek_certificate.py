"""Issue and verify endorsement key certificates (TCG EK Credential Profile 2.5, section 3; RFC 5280)."""

import datetime as dt
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import NameOID

from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.public_area import check_ek

# a date for what has no end of its own (RFC 5280, 4.1.2.5): a TPM stays genuine as long as it is
NO_END = dt.datetime(9999, 12, 31, 23, 59, 59, tzinfo=dt.UTC)
EK_USAGE = x509.ObjectIdentifier("2.23.133.8.1")
UUID_SCHEME = "urn:uuid:"


@dataclass(frozen=True, slots=True)
class CertificateAuthority:
    """A CA for the EKs of TPMs made here (vTPMs have no manufacturer)."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def create(cls, name: str, now: dt.datetime, days: int | None) -> "CertificateAuthority":
        """Make a CA with a fresh P-256 key; None: without end."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = _builder(subject, subject, key.public_key(), now, days)
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        builder = builder.add_extension(_key_usage(sign_certificates=True), critical=True)
        builder = builder.add_extension(
            x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False
        )
        return cls(builder.sign(key, hashes.SHA256()), key)

    def issue(self, ek_public: bytes, name: str, uuid: str, now: dt.datetime, days: int | None) -> bytes:
        """Issue a certificate (DER) for an EK, naming the machine and its uuid; None: without end."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        ek = check_ek(ek_public).key()
        builder = _builder(self.certificate.subject, subject, ek, now, days)
        uri = x509.UniformResourceIdentifier(UUID_SCHEME + uuid)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(sign_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([EK_USAGE]), critical=False)
            .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
            .add_extension(issuer, critical=False)
        )
        return builder.sign(self.key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)

    def root_pem(self) -> bytes:
        """Return the CA's certificate for verifiers."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)


def _builder(
    issuer: x509.Name, subject: x509.Name, key: ec.EllipticCurvePublicKey, now: dt.datetime, days: int | None
) -> x509.CertificateBuilder:
    builder = x509.CertificateBuilder().issuer_name(issuer).subject_name(subject).public_key(key)
    builder = builder.serial_number(x509.random_serial_number())
    end = NO_END if days is None else now + dt.timedelta(days=days)
    return builder.not_valid_before(now - dt.timedelta(hours=1)).not_valid_after(end)


def _key_usage(*, sign_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=not sign_certificates,
        key_cert_sign=sign_certificates,
        crl_sign=sign_certificates,
        encipher_only=False,
        decipher_only=False,
    )


# what the library raises for bytes that are no certificate, or none of ours; not all of it is a ValueError
_REFUSED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    verification.VerificationError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)


@dataclass(frozen=True, slots=True)
class EkIdentity:
    """A verified EK certificate: whose TPM this is."""

    fingerprint: str
    name: str
    uuid: str


def verify_ek_chain(
    certificate_der: bytes, ek_public: bytes, roots: Sequence[x509.Certificate], now: dt.datetime
) -> EkIdentity:
    """Verify the certificate up to a root and that it is for this EK; raises AttestationError.

    The library's default policy is for web servers and refuses EK certificates; ours asks for a CA-issued
    end entity with the EK usage 2.23.133.8.1.
    """
    certificate = _verify(certificate_der, roots, now)
    ek = check_ek(ek_public).key()
    if certificate.public_key() != ek:
        raise AttestationError(AttestationFailure.WRONG_EK, "the certificate is for another endorsement key")
    fingerprint = "sha256:" + hashlib.sha256(certificate_der).hexdigest()
    return EkIdentity(fingerprint, _common_name(certificate), _uuid(certificate))


def _verify(der: bytes, roots: Sequence[x509.Certificate], now: dt.datetime) -> x509.Certificate:
    try:
        certificate = x509.load_der_x509_certificate(der)
        policy = verification.ExtensionPolicy.permit_all()
        usage = policy.require_present(x509.ExtendedKeyUsage, verification.Criticality.AGNOSTIC, _check_usage)
        ca = policy.require_present(x509.BasicConstraints, verification.Criticality.AGNOSTIC, None)
        builder = verification.PolicyBuilder().store(verification.Store(list(roots))).time(now)
        builder.extension_policies(ca_policy=ca, ee_policy=usage).build_client_verifier().verify(
            certificate, []
        )
    except _REFUSED as error:
        raise AttestationError(
            AttestationFailure.UNTRUSTED_EK, f"the EK certificate is refused: {error}"
        ) from error
    return certificate


def _check_usage(_policy: object, _certificate: object, usage: x509.ExtendedKeyUsage) -> None:
    if EK_USAGE not in usage:
        raise ValueError(f"its usage is not that of an endorsement key ({EK_USAGE.dotted_string})")


def _common_name(certificate: x509.Certificate) -> str:
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _uuid(certificate: x509.Certificate) -> str:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ""
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return next((uri.removeprefix(UUID_SCHEME) for uri in uris if uri.startswith(UUID_SCHEME)), "")
