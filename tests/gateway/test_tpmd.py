"""The TPM daemon's verb that closes the way back."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from authn.pcr import PcrSelection
from authn.state_policy import VERSION_COUNTER, Approval
from authn.tpm import Tpm
from authn.tpm_worker import TpmWorker
from gateway.errors import GatewayError
from gateway.tpmd.server import TpmService
from tests.tpms import running_swtpm

UID, STRANGER = 64103, 64104


@pytest.fixture
def tcti(tmp_path: Path) -> Iterator[str]:
    with running_swtpm(tmp_path / "tpm") as one:
        yield one


def ask(tcti: str, approval: Path | None, uid: int = UID, times: int = 1) -> dict[str, object]:
    """Ask as often, and return the last answer."""

    async def story() -> dict[str, object]:
        worker = TpmWorker(tcti)
        try:
            service = TpmService(worker, PcrSelection.of([4]), UID, approval)
            for _ in range(times):
                answer = await service.handle({"op": "raise_least_version", "version": 99}, uid)
            return answer
        finally:
            worker.close()

    return asyncio.run(story())


def approval(directory: Path, version: int) -> Path:
    path = directory / "approval.json"
    path.write_text(Approval(version, "00" * 32, "00" * 64, "00" * 64).to_json())
    return path


def least(tcti: str) -> int:
    with Tpm(tcti) as tpm:
        return tpm.read_counter(VERSION_COUNTER)


def test_raises_it_to_the_version_that_was_approved_and_no_further(tcti: str, tmp_path: Path) -> None:
    assert ask(tcti, approval(tmp_path, 5), times=3) == {"version": 5}
    assert least(tcti) == 5


def test_an_older_image_changes_nothing(tcti: str, tmp_path: Path) -> None:
    ask(tcti, approval(tmp_path, 5))
    ask(tcti, approval(tmp_path, 3))
    assert least(tcti) == 5


@pytest.mark.parametrize(
    ("uid", "image", "code"), [(STRANGER, True, "not-permitted"), (UID, False, "no-image")]
)
def test_rejects_whoever_may_not(tcti: str, tmp_path: Path, uid: int, image: bool, code: str) -> None:
    with pytest.raises(GatewayError) as raised:
        ask(tcti, approval(tmp_path, 5) if image else None, uid)
    assert raised.value.code == code
    assert least(tcti) == 0


def test_rejects_approval_that_can_not_be_read(tcti: str, tmp_path: Path) -> None:
    (tmp_path / "approval.json").write_text("{}")
    with pytest.raises(GatewayError) as raised:
        ask(tcti, tmp_path / "approval.json")
    assert raised.value.code == "bad-approval"
    assert least(tcti) == 0


@pytest.mark.parametrize(("uid", "welcome"), [(UID, True), (0, True), (STRANGER, False), (65534, False)])
def test_a_stranger_is_kept_out_before_it_says_anything(uid: int, welcome: bool) -> None:
    service = TpmService(Mock(), PcrSelection.of([4]), UID)
    if welcome:
        service.admit(uid)
        return
    with pytest.raises(GatewayError) as refused:
        service.admit(uid)
    assert refused.value.code == "not-permitted"
