"""A TPM with a thread of its own, when it goes away in the middle."""

import asyncio
from pathlib import Path

import pytest

from authn.errors import TpmError
from authn.evidence import Quote
from authn.pcr import PcrSelection
from authn.tpm_worker import TpmWorker
from tests.tpms import running_swtpm


@pytest.mark.tpm
def test_a_tpm_that_was_away_is_asked_anew(tmp_path: Path) -> None:
    """A command without its answer leaves a connection on which nothing is answered any more."""

    async def story() -> None:
        with running_swtpm(tmp_path) as tcti:
            worker = TpmWorker(tcti)
            await worker.run(lambda tpm: tpm.provision())
        try:
            for _ in range(2):
                with pytest.raises(TpmError):
                    await _quote(worker)
            with running_swtpm(tmp_path):
                assert (await _quote(worker)).signature
        finally:
            worker.close()

    asyncio.run(story())


async def _quote(worker: TpmWorker) -> Quote:
    return await worker.run(lambda tpm: tpm.quote(PcrSelection.of([4]), b"nonce"))
