"""Copies of a real TPM's state: rolled back, or running beside the original."""

import dataclasses
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from authn.evidence import Counters, VerifiedQuote
from authn.failure import AttestationFailure as F
from authn.pcr import PcrSelection
from authn.public_area import AttestationKey
from authn.quote import ExpectedQuote, verify_quote
from authn.tpm import Tpm
from tests.authn.refusals import refused
from tests.tpms import running_swtpm

pytestmark = pytest.mark.tpm
SELECTION = PcrSelection.of([4])
NONCE = b"n" * 32


@dataclasses.dataclass
class Verifier:
    """What a gateway remembers of a peer between quotes."""

    key: AttestationKey
    previous: Counters | None = None

    def judge(self, tpm: Tpm, *, same_boot: bool = False) -> VerifiedQuote:
        expected = ExpectedQuote(
            self.key, SELECTION, NONCE, tpm.read_pcrs(SELECTION), self.previous, same_boot=same_boot
        )
        verified = verify_quote(tpm.quote(SELECTION, NONCE), expected)
        self.previous = verified.counters
        return verified


@contextmanager
def powered(directory: Path) -> Iterator[Tpm]:
    with running_swtpm(directory) as tcti, Tpm(tcti) as tpm:
        tpm.provision()
        yield tpm


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with powered(tmp_path / "original"):
        pass
    return tmp_path / "original"


def _verifier(tpm: Tpm) -> Verifier:
    identity = tpm.provision()
    return Verifier(AttestationKey.from_public(identity.ak_public, identity.ek_public))


def test_takes_a_restarted_tpm(state: Path) -> None:
    with powered(state) as tpm:
        verifier = _verifier(tpm)
        first = verifier.judge(tpm)
    with powered(state) as tpm:
        assert verifier.judge(tpm).counters.reset_count == first.counters.reset_count + 1


def test_rejects_rolled_back_state(state: Path, tmp_path: Path) -> None:
    shutil.copytree(state, tmp_path / "backup")
    with powered(state) as tpm:
        verifier = _verifier(tpm)
        verifier.judge(tpm)
    with powered(state) as tpm:
        verifier.judge(tpm)
    with powered(tmp_path / "backup") as tpm, refused(F.RESET_COUNT_REGRESSION):
        verifier.judge(tpm)


def test_rejects_a_clone_beside_the_original(state: Path, tmp_path: Path) -> None:
    """Both have the same key and reset count; the one that was started later has the younger clock."""
    shutil.copytree(state, tmp_path / "clone")
    with powered(state) as original:
        verifier = _verifier(original)
        while verifier.judge(original).counters.clock < 60:
            pass
        with powered(tmp_path / "clone") as clone, refused(F.CLOCK_REGRESSION):
            verifier.judge(clone)
        verifier.judge(original, same_boot=True)


def test_rejects_a_clone_within_the_originals_session(state: Path, tmp_path: Path) -> None:
    with powered(state) as original:
        verifier = _verifier(original)
        verifier.judge(original)
    shutil.copytree(state, tmp_path / "clone")
    with powered(state) as original:
        verifier.judge(original)
        with powered(tmp_path / "clone"):
            pass
        with powered(tmp_path / "clone") as clone, refused(F.RESET_DURING_SESSION):
            verifier.judge(clone, same_boot=True)


def test_the_original_shows_a_clone_that_took_its_place(state: Path, tmp_path: Path) -> None:
    """The case that shows late: the clone ran while the original was off, and reset more often."""
    shutil.copytree(state, tmp_path / "clone")
    with powered(tmp_path / "clone"):
        pass
    with powered(tmp_path / "clone") as clone:
        verifier = _verifier(clone)
        verifier.judge(clone)
    with powered(state) as original, refused(F.RESET_COUNT_REGRESSION):
        verifier.judge(original)


def test_a_clone_has_the_same_keys(state: Path, tmp_path: Path) -> None:
    shutil.copytree(state, tmp_path / "clone")
    with powered(state) as one, powered(tmp_path / "clone") as two:
        assert one.provision() == two.provision()
