"""Give inspected connections back to the kernel, where their rule lets it carry the rest (`offload_after`).

An inspector's connection is two: the client's ends at its socket, another leads to the server. Once nothing is under way on
either, the two are one for the kernel's connection tracking, whose port and sequence numbers it translates; the sockets go
without a word. Every packet still needs trust and lease, like those of a connection that was never inspected.
An inspector sends both sockets with a verb, HUSH and then JOIN (verdicts.py).
"""

import asyncio
import contextlib
import logging
import os
import socket
from ipaddress import IPv4Address
from typing import Final

from filters.errors import NetdError
from filters.flow import FlowKey, Protocol, Service
from filters.netd.conntrack import Endpoint, Joined, Known, join, look_up
from filters.netd.netlink_socket import NetlinkSocket
from filters.netd.state import State, boottime
from filters.netd.tcp_socket import RESETS, hush, read_connection, read_place, silence, wake, why_apart
from filters.netd.verdicts import APART, HANDED, JOIN, LOST
from filters.ruleset.names import HANDED_BIT

_AT_ONCE: Final = bytes(8)  # struct linger: off
_log = logging.getLogger(__name__)


class Apart(Exception):
    """Two connections stay two: why."""


class Handover:
    """Takes connections from inspectors."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._netlink = NetlinkSocket()
        self._inspectors: set[socket.socket] = set()

    def __len__(self) -> int:
        return len(self._inspectors)

    def admit(self) -> socket.socket:
        """Return a new inspector's end."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._inspectors.add(ours)
        asyncio.get_running_loop().add_reader(ours.fileno(), self._asked, ours)
        return theirs

    def close(self) -> None:
        """Stop; connections that were taken go on while netd's table lets them."""
        for inspector in list(self._inspectors):
            self._dismiss(inspector)
        self._netlink.close()

    def _asked(self, inspector: socket.socket) -> None:
        try:
            said, descriptors, _, _ = socket.recv_fds(inspector, 1, 2)
        except BlockingIOError:
            return
        except OSError:
            said, descriptors = b"", []
        try:
            answer = self._answer(said, *descriptors) if len(descriptors) == 2 else b""
        finally:
            for one in descriptors:
                os.close(one)
        if not answer:
            self._dismiss(inspector)
            return
        with contextlib.suppress(OSError):  # an inspector that went has no flows either
            inspector.send(answer)

    def _answer(self, verb: bytes, near: int, far: int) -> bytes:
        try:
            with _leg(near) as one, _leg(far) as other:
                (self.join if verb == JOIN else self.hush)(one, other)
        except OSError as error:
            return APART + str(error).encode()  # these are no sockets
        except Apart as why:
            return APART + str(why).encode()
        except NetdError as error:
            _log.error("a connection is lost: %s", error)
            return LOST
        return HANDED

    def hush(self, near: socket.socket, far: socket.socket) -> None:
        """Let two legs take no new bytes, if they may become one; raises Apart."""
        self._may_be_handed(*_ends(near, far))
        try:
            if why := why_apart(read_connection(near), read_connection(far), under_way=True):
                raise Apart(why)
            for leg in (near, far):
                hush(leg)
        except OSError as error:
            raise Apart(str(error)) from error

    def join(self, near: socket.socket, far: socket.socket) -> None:
        """Make one connection of two; raises Apart when they stay as they are, NetdError when they are lost."""
        client, out, server = _ends(near, far)
        known = self._may_be_handed(client, out, server)
        try:
            for leg in (near, far):
                silence(leg)
            if why := why_apart(read_connection(near), read_connection(far)):
                raise Apart(why)
            inside, outside = read_place(near), read_place(far)
        except (OSError, Apart) as error:
            for leg in (near, far):
                with contextlib.suppress(OSError):
                    wake(leg)
            raise Apart(str(error)) from error
        to_server, to_client = outside.sent - inside.received, inside.sent - outside.received
        mark = known.mark | HANDED_BIT
        join(self._netlink, Joined(client, out, server, known.port, mark, to_server, to_client))

    def _may_be_handed(self, client: Endpoint, far: Endpoint, server: Endpoint) -> Known:
        """Return the lease's id and the port that the server sees; raises Apart where no rule lets such a connection go on unseen."""
        if not self._state.kernel.features.handover:
            raise Apart("this kernel can't")
        key = FlowKey(IPv4Address(client[0]), IPv4Address(server[0]), Service(Protocol.TCP, server[1]))
        found = self._state.policy.permits(key) if self._state.policy else None
        if found is None or not found.offloads:
            raise Apart("no rule lets the kernel carry its rest")
        try:
            mark = look_up(self._netlink, client, server).mark
            port = look_up(self._netlink, far, server).port
            lease = self._state.book.get(mark, boottime())
        except NetdError as error:
            raise Apart(str(error)) from error
        if lease.key != key or lease.offloads != found.offloads:
            raise Apart("its lease is another's")
        return Known(mark, port)

    def _dismiss(self, inspector: socket.socket) -> None:
        asyncio.get_running_loop().remove_reader(inspector.fileno())
        self._inspectors.remove(inspector)
        inspector.close()


def _leg(descriptor: int) -> socket.socket:
    """Make a socket of a copy; raises OSError for what is none."""
    copy = os.dup(descriptor)
    try:
        leg = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    with contextlib.suppress(
        OSError
    ):  # closing must not wait for a peer that acknowledges nothing; a reset never does
        if leg.getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, len(RESETS)) != RESETS:
            leg.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
    return leg


def _ends(near: socket.socket, far: socket.socket) -> tuple[Endpoint, Endpoint, Endpoint]:
    """Return client, where the far leg comes from, and server; raises Apart when these are no two legs of one."""
    try:
        if {near.family, far.family} != {socket.AF_INET}:
            raise Apart("these are no TCP connections")
        client, server, out = near.getpeername(), near.getsockname(), far.getsockname()
        if (out[0], far.getpeername()) != (client[0], server):
            raise Apart("these are not the two legs of a connection")
    except (OSError, ValueError) as error:
        raise Apart(f"not connected: {error}") from error
    return client, out, server
