"""Approve an image: with this word the TPM of a gateway opens its state to it (see `authn.state_policy`)."""

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import Prehashed, decode_dss_signature

from authn.pcr import HashAlg
from authn.reference import ReferenceSet
from authn.state_policy import IMAGE_PCR, Approval, approved_policy, signed_digest
from vmhost.image.predict import predict

_SIZE = 32


def approve(uki: bytes, version: int, authority: ec.EllipticCurvePrivateKey) -> Approval:
    """Sign an image's policy with the authority's P-256 key; raises HostError for what is no image."""
    predicted = ReferenceSet(0, 0, {"image": predict(uki)[IMAGE_PCR]}).value("image", HashAlg.SHA256) or b""
    policy = approved_policy(predicted, version)
    signature = authority.sign(signed_digest(policy), ec.ECDSA(Prehashed(hashes.SHA256())))
    numbers = authority.public_key().public_numbers()
    return Approval(version, policy.hex(), _hex(numbers.x, numbers.y), _hex(*decode_dss_signature(signature)))


def _hex(*numbers: int) -> str:
    return "".join(one.to_bytes(_SIZE, "big").hex() for one in numbers)
