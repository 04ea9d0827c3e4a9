"""Ask the gateway in its VM: HTTP over the socket of the line to it. What it answers is its guest's word: bounded, parsed strictly."""

import asyncio
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmhost.errors import HostError
from vmhost.log import shown
from vmhost.update.slots import Outcome

ANSWER_WITHIN_S = 30.0
MAX_ANSWER = 256 << 10
MAX_TEXT = 500


@dataclass(frozen=True, slots=True)
class Complaint:
    """What is wrong with a gateway. `pending`: nothing but that parts of it still start, as it says."""

    what: str
    pending: bool


class GatewayApi:
    """The control API of one gateway."""

    def __init__(self, socket: Path) -> None:
        self._socket = socket

    async def self_test(self) -> Complaint | None:
        """Run the gateway's self-test; None: it passed. Raises HostError."""
        return complaint_of(await self._post("/v1/self-test"))

    async def tell(self, outcome: Outcome) -> None:
        """Have it put on record how an update ended; returns once that is durable. Raises HostError."""
        await self._post(
            "/v1/update/outcome", outcome=outcome.result, version=outcome.version, detail=outcome.detail
        )

    async def commit(self) -> None:
        """Have its TPM open the state to no older image any more; raises HostError."""
        await self._post("/v1/update/commit")

    async def _post(self, path: str, **body: object) -> dict[str, Any]:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\nContent-Type: application/json\r\n"
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                reader, writer = await asyncio.open_unix_connection(self._socket)
                try:
                    writer.write(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
                    return parse_answer(await _read_all(reader))
                finally:
                    writer.close()
        except (OSError, TimeoutError) as error:
            raise HostError(
                "gateway-away",
                f"{path}: expected an answer of the gateway within {ANSWER_WITHIN_S:.0f} s, got {error!r}",
            ) from error


async def _read_all(reader: asyncio.StreamReader) -> bytes:
    got = b""
    while len(got) <= MAX_ANSWER and (piece := await reader.read(1 << 16)):
        got += piece
    return got


def parse_answer(untrusted: bytes) -> dict[str, Any]:
    """Read an HTTP answer with a JSON object; raises HostError: its own code for an error, `bad-answer` for nonsense."""
    try:
        if len(untrusted) > MAX_ANSWER:
            raise ValueError(f"more than {MAX_ANSWER} bytes")
        answer = json.loads(untrusted.partition(b"\r\n\r\n")[2])
        if not isinstance(answer, dict):
            raise ValueError("no object")
        refusal = answer.get("error")
        if refusal is None:
            return answer
        code, message = (shown(str(refusal[one]))[:MAX_TEXT] for one in ("code", "message"))
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise HostError(
            "bad-answer", f"expected the gateway's answer to be a JSON object, got {str(error)[:MAX_TEXT]}"
        ) from error
    raise HostError(code, message)


def complaint_of(answer: dict[str, Any]) -> Complaint | None:
    """Return what failed in a self-test's answer, None when everything passed. An answer of another shape did not pass."""
    checks = answer.get("checks")
    if not isinstance(checks, list) or not all(isinstance(one, dict) for one in checks):
        return Complaint("its answer is no list of checks", pending=False)
    failed = [one for one in checks if one.get("passed") is not True]
    if answer.get("passed") is True and checks and not failed:
        return None
    pending = bool(failed) and all(one.get("pending") is True for one in failed)
    said = "; ".join(f"{one.get('check')}: {one.get('detail')}" for one in failed)
    return Complaint(shown(said)[:MAX_TEXT] or "it did not say what failed", pending)
