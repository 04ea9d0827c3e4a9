import hashlib
from pathlib import Path

import pytest

from authn.errors import TpmError
from authn.pcr import HashAlg, PcrSelection, extend
from authn.public_area import AttestationKey
from authn.quote import ExpectedQuote, verify_quote
from authn.tpm import Tpm, TpmIdentity
from tests.tpms import running_swtpm

pytestmark = pytest.mark.tpm
SELECTION = PcrSelection.of([4, 7, 9, 10])


def test_quote_of_a_real_tpm_verifies(tpm: Tpm, key: AttestationKey) -> None:
    values = tpm.read_pcrs(SELECTION)
    expected = ExpectedQuote(key, SELECTION, b"n" * 32, values, tpm.counters(), same_boot=True)
    verified = verify_quote(tpm.quote(SELECTION, b"n" * 32), expected)
    assert verified.counters.reset_count == tpm.counters().reset_count


def test_provisioning_again_finds_the_same_keys(tpm: Tpm, identity: TpmIdentity) -> None:
    assert tpm.provision() == identity


def test_extend_changes_the_pcr_as_computed(tpm: Tpm) -> None:
    before = tpm.read_pcrs(PcrSelection.of([13]))[13]
    digest = hashlib.sha256(b"something").digest()
    tpm.extend(13, digest)
    assert tpm.read_pcrs(PcrSelection.of([13]))[13] == extend(HashAlg.SHA256, before, digest)


def test_counter_only_grows(tpm: Tpm) -> None:
    first = tpm.increment_counter()
    assert tpm.increment_counter() == first + 1 == tpm.read_counter()


def test_restart_zeroes_pcrs_and_grows_the_reset_count(tmp_path: Path) -> None:
    with running_swtpm(tmp_path) as tcti, Tpm(tcti) as tpm:
        identity, before = tpm.provision(), tpm.counters()
        tpm.extend(10, bytes(32))
        assert tpm.read_pcrs(PcrSelection.of([10]))[10] != bytes(32)
    with running_swtpm(tmp_path) as tcti, Tpm(tcti) as tpm:
        assert tpm.provision() == identity
        assert tpm.counters().reset_count > before.reset_count
        assert tpm.read_pcrs(PcrSelection.of([10]))[10] == bytes(32)


def test_reports_an_absent_tpm(tmp_path: Path) -> None:
    with pytest.raises(TpmError, match="no TPM answers"):
        Tpm(f"swtpm:path={tmp_path}/nothing")
