"""Ask tpmd for quotes."""

import asyncio
from pathlib import Path
from typing import cast

from authn.evidence import Quote
from authn.handshake_messages import BatchQuote
from gateway.audit.heads import SignedHead
from gateway.rpc import Payload, RpcClient, RpcError

ANSWER_WITHIN_S = 10.0  # a chip takes half a second for a quote, and there may be several before ours


class TpmClient:
    """The TPM as quotegated sees it: typed verbs, no raw commands. Each raises RpcError."""

    def __init__(self, rpc: RpcClient, path: Path) -> None:
        self._rpc, self._path = rpc, path

    @classmethod
    async def connect(cls, path: Path) -> "TpmClient":
        """Connect to tpmd; raises RpcError when it is away."""
        return cls(await RpcClient.connect(path), path)

    @property
    def waits(self) -> float:
        """For how many seconds the TPM has owed us an answer."""
        return self._rpc.waits

    async def ping(self) -> None:
        """Ask for a sign of life, beside the queue of requests; raises RpcError when tpmd is away."""
        rpc = await RpcClient.connect(self._path)
        try:
            await rpc.call("ping")
        finally:
            rpc.close()

    async def quote_handshake(self, leaf: bytes) -> BatchQuote:
        """Return the gateway's handshake quote that covers `leaf`."""
        return _batch(await self._ask("quote_handshake", leaf=leaf.hex()))

    async def quote_beacon(self, leaf: bytes) -> BatchQuote:
        """Return the gateway's beacon quote that covers `leaf`."""
        return _batch(await self._ask("quote_beacon", leaf=leaf.hex()))

    async def sign_audit_head(self, sequence: int, head: bytes, time_ms: int) -> SignedHead:
        """Sign the audit chain's head together with a TPM counter that only grows."""
        answer = await self._ask("sign_audit_head", sequence=sequence, head=head.hex())
        counter = cast(int, answer["counter"])
        return SignedHead(sequence, head, counter, _quote(answer), time_ms)

    async def read_counter(self) -> int:
        """Read the TPM's audit counter."""
        return cast(int, (await self._ask("read_counter"))["counter"])

    async def raise_least_version(self) -> int:
        """Have the TPM open the state to nothing older than this image any more; return the image's version."""
        return cast(int, (await self._rpc.call("raise_least_version"))["version"])

    async def identity(self) -> tuple[bytes, bytes]:
        """Return the public areas of the gateway's AK and EK."""
        answer = await self._ask("identity")
        return bytes.fromhex(str(answer["ak_public"])), bytes.fromhex(str(answer["ek_public"]))

    async def _ask(self, op: str, **params: object) -> Payload:
        """Raises RpcError, `tpm-silent` for a TPM that hangs: without it nobody can be asked, nor let in."""
        call = asyncio.create_task(self._rpc.call(op, **params), name=f"tpmd {op}")
        try:
            for _ in range(2):  # after we were stopped ourselves the first time is over at once
                if (await asyncio.wait({call}, timeout=ANSWER_WITHIN_S / 2))[0]:
                    return await call
        finally:
            call.cancel()
        raise RpcError(
            "tpm-silent",
            f"tpmd gave no answer to {op} within {ANSWER_WITHIN_S:.0f} s: restart it; should this come back, look at the TPM",
        )

    def close(self) -> None:
        """Close the connection."""
        self._rpc.close()


def _quote(answer: Payload) -> Quote:
    return Quote(bytes.fromhex(str(answer["attest"])), bytes.fromhex(str(answer["signature"])))


def _batch(answer: Payload) -> BatchQuote:
    path = tuple(bytes.fromhex(node) for node in cast(list[str], answer["path"]))
    return BatchQuote(_quote(answer), cast(int, answer["index"]), cast(int, answer["size"]), path)
