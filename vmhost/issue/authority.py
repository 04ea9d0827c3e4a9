"""Who vouches for machines: a CA for their TPMs' endorsement keys, and the key that signs port maps and reference sets.

A lab's authority lives as long as the process that provisions it. One for other machines is kept in a directory.
"""

import datetime as dt
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.ek_certificate import CertificateAuthority
from vmhost.durable import sync_directory, write_durably, write_secret
from vmhost.errors import HostError
from vmhost.signing_key import check_days, public_keys

CA_CERTIFICATE, CA_KEY, SIGNING_KEY = "ek_ca.pem", "ek_ca.key", "signing.key"
LONGEST_NAME = 64  # RFC 5280, ub-common-name


@dataclass(frozen=True, slots=True)
class Authority:
    """The CA, and the key that signs documents."""

    ca: CertificateAuthority
    signer: Ed25519PrivateKey

    @classmethod
    def create(cls, name: str, now: dt.datetime, days: int | None) -> "Authority":
        """Make both with fresh keys; the CA without end for None. Raises HostError `bad-name`, `bad-days`."""
        if not 1 <= len(name) <= LONGEST_NAME:
            raise HostError(
                "bad-name",
                f"the authority's name: expected 1 to {LONGEST_NAME} characters, got {len(name)}; name it otherwise",
            )
        if days is not None:
            check_days(days)
        return cls(CertificateAuthority.create(name, now, days), Ed25519PrivateKey.generate())

    @property
    def public_keys(self) -> dict[str, str]:
        """Return the public key of its signatures, hex by id, as setup files have it."""
        return public_keys(self.signer)

    def store(self, directory: Path) -> None:
        """Keep it in a new directory, the keys root's alone: whole or not at all. Raises HostError `exists`, `unwritable`."""
        if os.path.lexists(directory):
            raise HostError(
                "exists",
                f"{directory}: checked before making an authority: expected a new directory, found one; its keys are "
                "never overwritten: name another, or use this one",
            )
        key = self.ca.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            scratch = Path(
                tempfile.mkdtemp(prefix=f".{directory.name}.", dir=directory.parent)
            )  # its owner's alone
            try:
                write_secret(scratch / CA_KEY, key)
                write_secret(scratch / SIGNING_KEY, self.signer.private_bytes_raw().hex().encode() + b"\n")
                write_durably(scratch / CA_CERTIFICATE, self.ca.root_pem())
                scratch.rename(directory)
            finally:
                shutil.rmtree(scratch, ignore_errors=True)
            sync_directory(directory.parent)
        except OSError as error:
            raise HostError(
                "unwritable",
                f"{directory}: making an authority: expected room for it, got {error.strerror}; name another directory",
            ) from error

    @classmethod
    def load(cls, directory: Path) -> "Authority":
        """Read what `store` wrote; raises HostError `bad-authority`."""
        try:
            key = serialization.load_pem_private_key((directory / CA_KEY).read_bytes(), None)
            certificate = x509.load_pem_x509_certificate((directory / CA_CERTIFICATE).read_bytes())
            signer = bytes.fromhex((directory / SIGNING_KEY).read_text().strip())
            if (
                not isinstance(key, ec.EllipticCurvePrivateKey)
                or key.public_key() != certificate.public_key()
            ):
                raise ValueError(f"{CA_KEY} is not the key of {CA_CERTIFICATE}")
            return cls(CertificateAuthority(certificate, key), Ed25519PrivateKey.from_private_bytes(signer))
        except (OSError, ValueError, TypeError) as error:
            raise HostError(
                "bad-authority",
                f"{directory}: expected {CA_CERTIFICATE}, {CA_KEY} and {SIGNING_KEY}, got: {error}; "
                f"make an authority once: quotegate guest authority {directory}",
            ) from error
