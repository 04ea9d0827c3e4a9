"""A TPM for a module's tests, and its key."""

from collections.abc import Iterator

import pytest

from authn.public_area import AttestationKey
from authn.tpm import Tpm
from tests.tpms import running_swtpm


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tpm]:
    """Have a TPM of one's own."""
    with running_swtpm(tmp_path_factory.mktemp("tpm")) as tcti, Tpm(tcti) as tpm:
        yield tpm


@pytest.fixture(scope="module")
def key(tpm: Tpm) -> AttestationKey:
    """Return the key that it signs with."""
    identity = tpm.provision()
    return AttestationKey.from_public(identity.ak_public, identity.ek_public)
