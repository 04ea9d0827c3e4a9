"""Approve an image: with this word the TPM of a gateway opens its state to it (see `authn.state_policy`)."""

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import (
    Prehashed,
    decode_dss_signature,
    encode_dss_signature,
)

from authn.pcr import HashAlg
from authn.reference import ReferenceSet
from authn.state_policy import IMAGE_PCRS, Approval, approved_policy, signed_digest
from vmhost.errors import HostError
from vmhost.image.predict import predict

_SIZE = 32


def approve(uki: bytes, version: int, authority: ec.EllipticCurvePrivateKey) -> Approval:
    """Sign an image's policy with the authority's P-256 key; raises HostError for what is no image."""
    policy = _policy(uki, version)
    signature = authority.sign(signed_digest(policy), ec.ECDSA(Prehashed(hashes.SHA256())))
    return Approval(
        version, policy.hex(), public_hex(authority.public_key()), _hex(*decode_dss_signature(signature))
    )


def check_approval(approval: Approval, uki: bytes, authority: str) -> None:
    """Check before a TPM does that the authority (x and y, hex) approved this image; raises HostError `not-approved`."""
    if approval.public != authority:
        raise _not_approved("the authority's key", authority, approval.public)
    expected = _policy(uki, approval.version).hex()
    if approval.policy != expected:
        raise _not_approved("the image's policy", expected, approval.policy)
    try:
        x, y, r, s = (one for text in (authority, approval.signature) for one in _numbers(text))
        key = ec.EllipticCurvePublicNumbers(x, y, ec.SECP256R1()).public_key()
        policy = bytes.fromhex(approval.policy)
        key.verify(encode_dss_signature(r, s), signed_digest(policy), ec.ECDSA(Prehashed(hashes.SHA256())))
    except (InvalidSignature, ValueError) as error:
        raise _not_approved("the signature", "one by the authority", "one that does not fit") from error


def public_hex(key: ec.EllipticCurvePublicKey) -> str:
    """Write a P-256 key as an approval has it: x and y in hex."""
    numbers = key.public_numbers()
    return _hex(numbers.x, numbers.y)


def _policy(uki: bytes, version: int) -> bytes:
    events = predict(uki)
    predicted = ReferenceSet(0, 0, {str(index): events[index] for index in IMAGE_PCRS})
    values = {index: predicted.value(str(index), HashAlg.SHA256) or b"" for index in IMAGE_PCRS}
    return approved_policy(values, version)


def _not_approved(what: str, expected: str, got: str) -> HostError:
    return HostError(
        "not-approved",
        f"the approval in the update: checked {what}: expected {expected}, got {got}; the TPM would keep the state "
        "closed: have the authority approve this image",
    )


def _numbers(text: str) -> tuple[int, int]:
    """Read two numbers in hex; raises ValueError."""
    data = bytes.fromhex(text)
    return int.from_bytes(data[:_SIZE]), int.from_bytes(data[_SIZE:])


def _hex(*numbers: int) -> str:
    return "".join(one.to_bytes(_SIZE, "big").hex() for one in numbers)
