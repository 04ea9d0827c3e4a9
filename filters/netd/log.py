"""Receive samples of dropped packets from NFLOG (linux/netfilter/nfnetlink_log.h)."""

import struct
from collections.abc import Iterator
from typing import Final

from filters.netd import netlink as nl
from filters.netd.netlink_socket import NetlinkSocket
from filters.netd.protocol import Dropped
from filters.reason import DropReason
from filters.ruleset.names import LOG_PREFIX, LOG_SNAPLEN

_PACKET, _CONFIG = 0, 1  # NFULNL_MSG_*
_CFG_CMD, _CFG_MODE, _CFG_TIMEOUT, _CFG_THRESHOLD, _CFG_FLAGS = 1, 2, 4, 5, 6  # NFULA_CFG_*
_BIND, _COPY_PACKET, _FLAG_SEQUENCE = 1, 2, 1
_PAYLOAD, _PREFIX, _SEQUENCE = 9, 10, 12  # NFULA_*
_TIMEOUT: Final = 5  # 1/100 s until a half full batch is delivered
_THRESHOLD: Final = 32
_BURST: Final = 16


def bind_messages(group: int, sequence: int) -> tuple[bytes, bytes]:
    """Write the two messages that bind a log group and set how it delivers (sequence and sequence + 1)."""
    command = nl.attribute(_CFG_CMD, bytes([_BIND]))
    mode = (
        nl.attribute(_CFG_MODE, struct.pack("!IBx", LOG_SNAPLEN, _COPY_PACKET))
        + nl.u32(_CFG_TIMEOUT, _TIMEOUT)
        + nl.u32(_CFG_THRESHOLD, _THRESHOLD)
        + nl.attribute(_CFG_FLAGS, struct.pack("!H", _FLAG_SEQUENCE))
    )
    parts = [
        nl.nf_message(nl.Subsystem.ULOG, _CONFIG, nl.NLM_F_ACK, sequence + step, payload, resource=group)
        for step, payload in enumerate((command, mode))
    ]
    return parts[0], parts[1]


def read_sample(payload: bytes) -> tuple[Dropped | None, int]:
    """Read one log message as (sample, its number); None for a prefix that is not ours."""
    found = nl.attribute_map(payload, nl.NFGEN_LENGTH)
    number = int.from_bytes(found.get(_SEQUENCE, b""), "big")
    prefix = found.get(_PREFIX, b"").rstrip(b"\0").decode(errors="replace")
    try:
        reason = DropReason(prefix.removeprefix(LOG_PREFIX).strip())
    except ValueError:
        return None, number
    return Dropped(reason, found.get(_PAYLOAD, b"")), number


class DropLog:
    """One bound log group. `lost` counts samples the kernel could not deliver."""

    def __init__(self, group: int) -> None:
        self._netlink = NetlinkSocket()
        sequence = self._netlink.sequence(2)
        for step, raw in enumerate(bind_messages(group, sequence)):
            self._netlink.execute(raw, sequence + step, "bind the log group")
        self._next: int | None = None
        self.lost = 0

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._netlink.socket.fileno()

    def close(self) -> None:
        """Unbind."""
        self._netlink.close()

    def receive(self) -> Iterator[Dropped]:
        """Yield what has come, at most one burst. After an overrun the gap in the numbers says how many are lost."""
        for payload in self._netlink.arrived(nl.Subsystem.ULOG << 8 | _PACKET, _BURST):
            yield from self._sample(payload)

    def _sample(self, payload: bytes) -> Iterator[Dropped]:
        sample, number = read_sample(payload)
        if self._next is not None:
            self.lost += (number - self._next) & 0xFFFFFFFF
        self._next = (number + 1) & 0xFFFFFFFF
        if sample is not None:
            yield sample
