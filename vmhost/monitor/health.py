"""Ask the gateway whether it is well."""

import asyncio
from pathlib import Path

ANSWER_WITHIN_S = 1.0


async def is_healthy(api: Path) -> bool:
    """Ask the control API: plain HTTP over its unix socket."""
    try:
        async with asyncio.timeout(ANSWER_WITHIN_S):
            reader, writer = await asyncio.open_unix_connection(api)
            try:
                writer.write(b"GET /v1/health HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n")
                return b" 200 " in await reader.readline()
            finally:
                writer.close()
    except (OSError, ValueError, TimeoutError):
        return False
