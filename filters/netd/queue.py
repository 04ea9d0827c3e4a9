"""Queues: receive packets from NFQUEUE and give verdicts (linux/netfilter/nfnetlink_queue.h)."""

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from filters.errors import NetdError
from filters.netd import netlink as nl
from filters.netd.netlink_socket import NetlinkSocket
from filters.netd.packet import NEEDED

_PACKET, _VERDICT, _CONFIG = 0, 1, 2  # NFQNL_MSG_*
_CFG_CMD, _CFG_PARAMS, _CFG_MAXLEN = 1, 2, 3  # NFQA_CFG_*
_BIND, _COPY_PACKET = 1, 2  # NFQNL_CFG_CMD_BIND, NFQNL_COPY_PACKET
_PACKET_HDR, _VERDICT_HDR, _MARK, _PAYLOAD = 1, 2, 3, 10  # NFQA_*
WHOLE: Final = 0xFFFF  # bytes of a packet to copy: all of it
# Above what may wait (hold.py, packet_desk.py) and what fits into the socket together: what then finds no room has a number that
# is missed, what finds a full queue has none.
_QUEUE_LENGTH: Final = 1 << 16
_BURST: Final = 64  # datagrams per turn of the event loop: a flood must not starve the requests


class Verdict(IntEnum):
    """What happens to a queued packet (linux/netfilter.h). ACCEPT goes on at the lease lookup."""

    DROP = 0
    ACCEPT = 1


@dataclass(frozen=True, slots=True)
class QueuedPacket:
    """A packet that waits for a verdict, and its bytes from the IP header on, as many as were asked for."""

    packet_id: int
    head: bytes


def bind_message(number: int, sequence: int, copied: int) -> bytes:
    """Write the message that binds a queue and says how many bytes of a packet come with it; the kernel drops what finds no room or no listener."""
    payload = nl.attribute(_CFG_CMD, struct.pack("!BxH", _BIND, 0))
    payload += nl.attribute(_CFG_PARAMS, struct.pack("!IB", copied, _COPY_PACKET))
    payload += nl.u32(_CFG_MAXLEN, _QUEUE_LENGTH)
    return nl.nf_message(nl.Subsystem.QUEUE, _CONFIG, nl.NLM_F_ACK, sequence, payload, resource=number)


def verdict_message(number: int, packet_id: int, verdict: Verdict, mark: int = 0) -> bytes:
    """Write one verdict; the packet goes on with that mark."""
    payload = nl.attribute(_VERDICT_HDR, struct.pack("!II", verdict, packet_id)) + nl.u32(_MARK, mark)
    return nl.nf_message(nl.Subsystem.QUEUE, _VERDICT, 0, 0, payload, resource=number)


def read_packet(payload: bytes) -> QueuedPacket:
    """Read a queued packet."""
    found = nl.attribute_map(payload, nl.NFGEN_LENGTH)
    packet_id = int.from_bytes(found[_PACKET_HDR][:4], "big")
    return QueuedPacket(packet_id, found.get(_PAYLOAD, b""))


class PacketQueue:
    """One bound NFQUEUE. When it closes, the kernel drops every packet that waits in it."""

    def __init__(self, number: int, copied: int = NEEDED) -> None:
        self._number = number
        self._last = 0
        self.missed = 0  # packets that the kernel dropped because they found no room on their way here
        self._netlink = NetlinkSocket()
        sequence = self._netlink.sequence()
        self._netlink.execute(bind_message(number, sequence, copied), sequence, "bind a queue")

    def fileno(self) -> int:
        """Return the descriptor to wait for."""
        return self._netlink.socket.fileno()

    def close(self) -> None:
        """Unbind."""
        self._netlink.close()

    def receive(self) -> Iterator[QueuedPacket]:
        """Yield what has come, at most one burst. The kernel numbers packets from 1 on: a gap says how many are missed."""
        for payload in self._netlink.arrived(nl.Subsystem.QUEUE << 8 | _PACKET, _BURST):
            packet = read_packet(payload)
            self.missed += (packet.packet_id - self._last - 1) & 0xFFFFFFFF
            self._last = packet.packet_id
            yield packet

    def decide(self, packet_ids: Iterable[int], verdict: Verdict, mark: int = 0) -> None:
        """Give one verdict to several packets; those the kernel no longer has are ignored."""
        for packet_id in packet_ids:
            try:
                self._netlink.socket.sendto(verdict_message(self._number, packet_id, verdict, mark), (0, 0))
            except OSError as error:
                raise NetdError("kernel", f"verdict: {error}", errno=error.errno) from error
