"""The TPM daemon's verb that closes the way back."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import cast
from unittest.mock import Mock

import pytest

from authn import labels
from authn.attest import parse_quote
from authn.errors import TpmError
from authn.evidence import Quote
from authn.pcr import PcrSelection
from authn.public_area import AttestationKey
from authn.state_policy import VERSION_COUNTER, Approval
from authn.tpm import AUDIT_COUNTER, Tpm
from authn.tpm_worker import TpmWorker
from gateway.audit.heads import SignedHead
from gateway.errors import GatewayError
from gateway.tpmd.batch import QuoteBatcher
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


def test_rejects_approval_that_is_not_there(tcti: str, tmp_path: Path) -> None:
    """It ended the connection, and with it the gateway."""
    with pytest.raises(GatewayError) as raised:
        ask(tcti, tmp_path / "approval.json")
    assert raised.value.code == "bad-approval"
    assert str(tmp_path / "approval.json") in raised.value.message


def signing(tcti: str, story: Callable[[TpmService, TpmWorker], Awaitable[None]]) -> None:
    async def run() -> None:
        worker = TpmWorker(tcti)
        try:
            await worker.run(lambda tpm: tpm.provision())
            await story(TpmService(worker, PcrSelection.of([4]), UID), worker)
        finally:
            worker.close()

    asyncio.run(run())


HEAD = {"op": "sign_audit_head", "sequence": 1, "head": "11" * 32}


def test_a_quote_that_failed_is_no_head_that_was_lost(tcti: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After two of them the record seemed to be an older copy."""

    async def story(service: TpmService, worker: TpmWorker) -> None:
        before = (await service.handle(HEAD, UID))["counter"]
        with monkeypatch.context() as patched:
            patched.setattr(Tpm, "quote", Mock(side_effect=TpmError("tpm-refused", "the TPM refused quote")))
            for _ in range(3):
                with pytest.raises(GatewayError, match="refused quote"):
                    await service.handle(HEAD, UID)
        assert (await service.handle({"op": "read_counter"}, UID))["counter"] == before
        answer = await service.handle(HEAD, UID)
        assert answer["counter"] == cast(int, before) + 1
        key = await worker.run(lambda tpm: tpm.provision())
        quote = Quote(bytes.fromhex(str(answer["attest"])), bytes.fromhex(str(answer["signature"])))
        head = SignedHead(1, bytes.fromhex("11" * 32), cast(int, answer["counter"]), quote, 0)
        assert head.signed_by(AttestationKey.from_public(key.ak_public, key.ek_public))

    signing(tcti, story)


@pytest.mark.parametrize("begins", [1, 58])
def test_the_first_head_is_signed_with_the_value_that_the_counter_has(
    tcti: str, monkeypatch: pytest.MonkeyPatch, begins: int
) -> None:
    """A new counter begins above every one that the TPM ever had."""
    monkeypatch.setattr(Tpm, "increment_counter", lambda _: begins)

    async def story(service: TpmService, worker: TpmWorker) -> None:
        answer = await service.handle(HEAD, UID)
        attest = parse_quote(bytes.fromhex(str(answer["attest"])))
        assert answer["counter"] == begins
        assert attest.extra_data == labels.audit_head(1, bytes.fromhex("11" * 32), begins)

    signing(tcti, story)


def test_a_counter_that_was_defined_and_never_counted_is_zero(tcti: str) -> None:
    """Power lost between the two kept the gateway from ever starting again."""

    async def story(service: TpmService, worker: TpmWorker) -> None:
        await worker.run(lambda tpm: tpm._define_counter(AUDIT_COUNTER))
        assert (await service.handle({"op": "read_counter"}, UID))["counter"] == 0
        assert (await service.handle(HEAD, UID))["counter"] == 1

    signing(tcti, story)


def test_whoever_came_first_may_go_and_the_others_get_their_quotes() -> None:
    """They waited without end: the quoting was the first one's own, and ended with it."""

    async def story() -> None:
        go, sizes = asyncio.Event(), list[int]()

        async def quote_root(size: int, _: bytes) -> Quote:
            await go.wait()
            sizes.append(size)
            return Quote(b"", b"")

        batcher = QuoteBatcher(quote_root)
        first, *others = (asyncio.create_task(batcher.quote(bytes([one]) * 32)) for one in range(4))
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        go.set()
        async with asyncio.timeout(2):
            assert len(await asyncio.gather(*others)) == 3
            await batcher.quote(bytes(32))
        assert sum(sizes) == 5

    asyncio.run(story())


@pytest.mark.parametrize(("uid", "welcome"), [(UID, True), (0, True), (STRANGER, False), (65534, False)])
def test_a_stranger_is_kept_out_before_it_says_anything(uid: int, welcome: bool) -> None:
    service = TpmService(Mock(), PcrSelection.of([4]), UID)
    if welcome:
        service.admit(uid)
        return
    with pytest.raises(GatewayError) as refused:
        service.admit(uid)
    assert refused.value.code == "not-permitted"
