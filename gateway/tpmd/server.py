"""Answer typed requests for quotes; build every signed byte here, so that nobody can use us as an oracle."""

import asyncio
from pathlib import Path

from authn import labels
from authn.errors import AuthnError
from authn.evidence import Quote
from authn.handshake_messages import BatchQuote
from authn.pcr import PcrSelection
from authn.sealing import Sealing
from authn.state_policy import Approval
from authn.tpm_worker import TpmWorker
from gateway.errors import GatewayError
from gateway.rpc import Payload
from gateway.tpmd.batch import QuoteBatcher

LEAF_SIZE = 32


class TpmService:
    """The verbs of tpmd: ping, quote_handshake, quote_beacon, sign_audit_head, read_counter, raise_least_version, identity.

    `approval` is the authority's word for this machine's image; None where the machine is no image.
    """

    def __init__(
        self, worker: TpmWorker, selection: PcrSelection, client_uid: int, approval: Path | None = None
    ) -> None:
        self._worker, self._selection, self._client_uid = worker, selection, client_uid
        self._approval, self._signing = approval, asyncio.Lock()
        self._handshakes = QuoteBatcher(self._quote_handshakes)
        self._beacons = QuoteBatcher(self._quote_beacons)

    def admit(self, uid: int) -> None:
        """Let quotegated in, and root; raises GatewayError for strangers."""
        if uid not in (self._client_uid, 0):
            raise GatewayError("not-permitted", f"uid {uid} may not use the TPM daemon")

    async def handle(self, request: Payload, uid: int) -> Payload:
        """Answer one request from `uid`; raises GatewayError for strangers and unknown verbs."""
        self.admit(uid)
        verb = getattr(self, f"_verb_{request.get('op')}", None)
        if verb is None:
            raise GatewayError("unknown-verb", f"tpmd has no verb {request.get('op')!r}")
        try:
            answer: Payload = await verb(request)
        except AuthnError as error:
            raise GatewayError(error.code, error.message) from error
        return answer

    async def _verb_ping(self, _: Payload) -> Payload:
        return {}

    async def _verb_quote_handshake(self, request: Payload) -> Payload:
        return _batch_answer(await self._handshakes.quote(_digest(request, "leaf")))

    async def _verb_quote_beacon(self, request: Payload) -> Payload:
        return _batch_answer(await self._beacons.quote(_digest(request, "leaf")))

    async def _verb_sign_audit_head(self, request: Payload) -> Payload:
        sequence, head = request.get("sequence"), _digest(request, "head")
        if not isinstance(sequence, int):
            raise GatewayError("malformed-request", "sign_audit_head takes a whole number `sequence`")
        async with self._signing:
            counter, quote = await self._sign_head(sequence, head)
        return {"counter": counter, **_quote_answer(quote)}

    async def _sign_head(self, sequence: int, head: bytes) -> tuple[int, Quote]:
        """Sign with the counter's next value and then count: a quote that fails must not look like a head that was lost."""
        wanted = 1 + await self._worker.run(lambda tpm: tpm.read_counter())
        quote = await self._quote(labels.audit_head(sequence, head, wanted))
        counter = await self._worker.run(lambda tpm: tpm.increment_counter())
        if counter != wanted:  # where a new counter begins is the TPM's affair
            quote = await self._quote(labels.audit_head(sequence, head, counter))
        return counter, quote

    async def _verb_read_counter(self, _: Payload) -> Payload:
        return {"counter": await self._worker.run(lambda tpm: tpm.read_counter())}

    async def _verb_raise_least_version(self, _: Payload) -> Payload:
        """Open the state to nothing older than this image any more: never to more than it was itself approved for."""
        if self._approval is None:
            raise GatewayError("no-image", "this gateway is no image that was approved: it has no version")
        version = _read_approval(self._approval).version
        await self._worker.run(lambda tpm: Sealing(tpm).raise_least_version(version))
        return {"version": version}

    async def _verb_identity(self, _: Payload) -> Payload:
        identity = await self._worker.run(lambda tpm: tpm.provision())
        return {
            "ek_public": identity.ek_public.hex(),
            "ak_public": identity.ak_public.hex(),
            "ak_name": identity.ak_name.hex(),
        }

    async def _quote_handshakes(self, size: int, root: bytes) -> Quote:
        return await self._quote(labels.gateway_batch(size, root))

    async def _quote_beacons(self, size: int, root: bytes) -> Quote:
        return await self._quote(labels.gateway_beacon(size, root))

    async def _quote(self, qualifying_data: bytes) -> Quote:
        return await self._worker.run(lambda tpm: tpm.quote(self._selection, qualifying_data))


def _read_approval(path: Path) -> Approval:
    try:
        return Approval.from_json(path.read_bytes().decode(errors="replace"))
    except OSError as error:
        raise GatewayError(
            "bad-approval", f"{path}: {error.strerror}; expected the approval of this image"
        ) from error


def _digest(request: Payload, name: str) -> bytes:
    try:
        value = bytes.fromhex(str(request.get(name)))
    except ValueError:
        value = b""
    if len(value) != LEAF_SIZE:
        raise GatewayError("malformed-request", f"`{name}` must be {LEAF_SIZE} bytes in hex")
    return value


def _quote_answer(quote: Quote) -> Payload:
    return {"attest": quote.attest.hex(), "signature": quote.signature.hex()}


def _batch_answer(batch: BatchQuote) -> Payload:
    path = [node.hex() for node in batch.path]
    return {**_quote_answer(batch.quote), "index": batch.index, "size": batch.size, "path": path}
