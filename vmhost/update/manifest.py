"""An update's manifest: what the administrator signed about one image of the gateway.

It is a signed document (`authn.signing`) of kind `gateway-update`, whose version is the image's. Its payload has the
files with size and SHA-256, the authority's approval for the TPM (`authn.state_policy`), and the reference set by
which peers judge the image, itself a signed document.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.errors import TpmError
from authn.signing import DocumentError, SignedDocument, sign_document, verify_document
from authn.state_policy import Approval
from vmhost.errors import HostError

KIND, MANIFEST = "gateway-update", "update.json"
BOOT, ROOT = "gateway.img", "gateway.root"
_FIELDS = {"image", "files", "approval", "references"}
_DIGEST_SIZE = 32


@dataclass(frozen=True, slots=True)
class FileFacts:
    """What a file is to be."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest whose signature, kind and date were checked."""

    version: int
    not_after: float
    image: str
    files: Mapping[str, FileFacts]
    approval: Approval
    references: bytes

    @classmethod
    def from_document(cls, document: SignedDocument) -> "Manifest":
        """Read a verified document; raises DocumentError."""
        payload: dict[str, Any] = document.payload
        try:
            if set(payload) != _FIELDS:
                raise ValueError(f"expected exactly {', '.join(sorted(_FIELDS))}")
            files = {str(name): _facts(facts) for name, facts in payload["files"].items()}
            if set(files) != {BOOT, ROOT}:
                raise ValueError(f"expected the files {BOOT} and {ROOT}, got {', '.join(sorted(files))}")
            approval = Approval.of(payload["approval"])
            if approval.version != document.version:
                raise ValueError(
                    f"it approves version {approval.version}, and is of version {document.version}"
                )
            image, references = str(payload["image"]), str(payload["references"]).encode()
        except (ValueError, KeyError, TypeError, AttributeError, TpmError) as error:
            raise DocumentError("malformed", f"not an update's manifest: {error}") from error
        return cls(document.version, document.not_after, image, files, approval, references)

    def sign(self, key: Ed25519PrivateKey) -> bytes:
        """Write it as a signed document."""
        payload = {
            "image": self.image,
            "files": {name: asdict(facts) for name, facts in self.files.items()},
            "approval": asdict(self.approval),
            "references": self.references.decode(),
        }
        return sign_document(KIND, self.version, self.not_after, payload, key)


def read_manifest(untrusted: bytes, keys: Mapping[str, bytes], now: float) -> Manifest:
    """Verify and read a manifest; raises HostError `update-refused`, with the failed check as `cause`."""
    try:
        return Manifest.from_document(verify_document(untrusted, KIND, keys, now))
    except DocumentError as error:
        raise HostError(
            "update-refused",
            f"the update's manifest: {error.message}; nothing was changed: fetch the update again, or have it signed anew",
            cause=error.code,
        ) from error


def _facts(data: dict[str, Any]) -> FileFacts:
    size, digest = data["size"], data["sha256"]
    if type(size) is not int or size < 0 or len(bytes.fromhex(digest)) != _DIGEST_SIZE:
        raise ValueError("a file has a size and a SHA-256 in hex")
    return FileFacts(size, digest)
