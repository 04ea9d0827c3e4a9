"""Give a connection back to the kernel as one, while the kernel already moves its bytes between the two legs (splicing.py).

For a moment, at netd's word, neither leg takes new bytes: what was taken arrives, and what comes is repeated by its sender. Then
netd joins the legs (filters/netd/handover.py). Where that can't be, the bytes go on being moved.
"""

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from filters.inspection.worker.splicing import Bypass
from filters.netd.tcp_socket import read_connection, unhush
from filters.netd.verdicts import APART, HANDED, HUSH, JOIN, UNDER_WAY

PATIENCE_S: Final = 0.1  # a receiver that takes longer is slow: not now
LOOK_EVERY_S: Final = 0.0005
AGAIN_AFTER_S: Final = (0.0, 1.0, 4.0, 16.0)
Ask = Callable[[bytes, socket.socket, socket.socket], Awaitable[bytes]]  # one of netd's verbs for two legs


async def hand_back(bypass: Bypass, ask: Ask) -> bytes:
    """Try a few times; return netd's last word, whose first byte says what became of the connection (verdicts.py).

    Raises OSError when the connection ends meanwhile, and what `ask` raises.
    """
    near, far = bypass.sockets
    answer = APART
    for pause in AGAIN_AFTER_S:
        await asyncio.sleep(pause)
        answer = await ask(HUSH, near, far)
        if answer[:1] != HANDED:
            return answer
        try:
            answer = APART
            if await _becomes_still(near, far, bypass):
                answer = await ask(JOIN, near, far)
        finally:
            if answer[:1] != HANDED:
                for leg in (near, far):
                    with contextlib.suppress(OSError):  # the connection is over
                        unhush(leg)
        if answer not in (APART, UNDER_WAY):
            return answer
    return answer


async def _becomes_still(near: socket.socket, far: socket.socket, bypass: Bypass) -> bool:
    loop = asyncio.get_running_loop()
    until = loop.time() + PATIENCE_S
    while bypass.carries or any(read_connection(leg).waiting for leg in (near, far)):
        if loop.time() > until or bypass.ended:
            return False
        await asyncio.sleep(LOOK_EVERY_S)
    return not bypass.ended
