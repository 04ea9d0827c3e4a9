"""What is signed can be verified: a version and an end that whoever reads it takes."""

import math
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.signing import MAX_VERSION, key_id, sign_document, verify_document
from vmhost.errors import HostError
from vmhost.signing_key import check_version, end_of, load_signing_key
from vmhost.spec import MOST_DAYS

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()


@pytest.mark.parametrize("version", [0, 1, MAX_VERSION])
def test_a_version_that_may_be_signed_is_verified(version: int) -> None:
    check_version(version)
    document = sign_document("test", version, end_of(0.5, 1000.0), {}, KEY)
    assert verify_document(document, "test", {key_id(PUBLIC): PUBLIC}, 1000.0).version == version


@pytest.mark.parametrize("version", [-1, MAX_VERSION + 1])
def test_rejects_a_version_that_nobody_takes(version: int) -> None:
    with pytest.raises(HostError, match="nothing was signed") as refused:
        check_version(version)
    assert refused.value.code == "bad-version"


@pytest.mark.parametrize("days", [0, -5, MOST_DAYS + 1, math.inf, math.nan])
def test_rejects_an_end_that_is_over_or_never_comes(days: float) -> None:
    with pytest.raises(HostError, match="--days: expected more than 0 and at most 3650, got") as refused:
        end_of(days, 1000.0)
    assert refused.value.code == "bad-days"


def test_rejects_what_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("no hex\n")
    with pytest.raises(HostError, match="expected a file with 64 hex digits"):
        load_signing_key(tmp_path / "key")
