from collections.abc import Iterator
from pathlib import Path

import pytest

from authn.public_area import AttestationKey
from authn.tpm import Tpm, TpmIdentity
from tests.authn.ima_lists import Machine
from tests.tpms import running_swtpm


@pytest.fixture(scope="session")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tpm]:
    with running_swtpm(Path(tmp_path_factory.mktemp("tpm"))) as tcti, Tpm(tcti) as tpm:
        yield tpm


@pytest.fixture(scope="session")
def identity(tpm: Tpm) -> TpmIdentity:
    return tpm.provision()


@pytest.fixture(scope="session")
def key(identity: TpmIdentity) -> AttestationKey:
    return AttestationKey.from_public(identity.ak_public, identity.ek_public)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    with running_swtpm(tmp_path) as tcti, Tpm(tcti) as tpm:
        identity = tpm.provision()
        yield Machine(tpm, AttestationKey.from_public(identity.ak_public, identity.ek_public))
