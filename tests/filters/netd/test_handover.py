"""What netd refuses of connections that inspectors give back. The real thing is in tests/lab/test_handover.py."""

import asyncio
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace

import pytest

from filters.errors import NetdError
from filters.flow import FlowKey, Protocol, Service
from filters.netd import handover
from filters.netd.book import Lease
from filters.netd.conntrack import Endpoint, Joined, Known
from filters.netd.handover import Apart, Handover
from filters.netd.state import State, boottime
from filters.netd.tcp_socket import RESETS
from filters.netd.verdicts import APART, HANDED, HUSH, JOIN, LOST
from filters.ruleset.names import HANDED_BIT, INSPECTED_BIT
from tests.filters.ruleset.policies import key, pin, policy

LEASE = INSPECTED_BIT | 7
Legs = tuple[socket.socket, socket.socket]


@pytest.fixture
def legs() -> Iterator[Legs]:
    """Two legs of a connection from 127.0.0.2 to 127.0.0.3, without the ends that peers hold."""
    with socket.create_server(("127.0.0.3", 0)) as server:
        client = socket.create_connection(server.getsockname(), 5, ("127.0.0.2", 0))
        near, _ = server.accept()
        far = socket.create_connection(server.getsockname(), 5, ("127.0.0.2", 0))
        other, _ = server.accept()
    yield near, far
    for one in (client, near, far, other):
        one.close()


def _state(legs: Legs, *, offloads: str = "how", handover: bool = True) -> State:
    server = legs[0].getsockname()
    allowed = replace(
        key(2, 3, Protocol.TCP, server[1]),
        source=IPv4Address("127.0.0.2"),
        destination=IPv4Address("127.0.0.3"),
        inspected=True,
        offloads=offloads,
    )
    state = State("eth0", SimpleNamespace(features=SimpleNamespace(handover=handover)))  # type: ignore[arg-type]
    state.enforce(policy((pin(2), pin(3)), (allowed,)))
    flow = FlowKey(allowed.source, allowed.destination, Service(Protocol.TCP, server[1]))
    state.book.put(Lease(LEASE, flow, boottime() + 60, offloads))
    return state


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> list[Joined]:
    """What the kernel would be told; every connection has the lease's mark there."""
    told: list[Joined] = []

    def look_up(_: object, client: Endpoint, __: Endpoint) -> Known:
        return Known(LEASE, client[1] + 1)

    monkeypatch.setattr(handover, "look_up", look_up)
    monkeypatch.setattr(handover, "join", lambda _, one: told.append(one))
    return told


def _refused(state: State, near: socket.socket, far: socket.socket, words: str) -> None:
    for act in (Handover(state).hush, Handover(state).join):
        with pytest.raises(Apart, match=words):
            act(near, far)


def test_rejects_a_connection_whose_rule_is_inspected_to_its_end(legs: Legs, joined: list[Joined]) -> None:
    _refused(_state(legs, offloads=""), *legs, "no rule")
    assert joined == []


def test_rejects_everything_where_the_kernel_can_not(legs: Legs, joined: list[Joined]) -> None:
    _refused(_state(legs, handover=False), *legs, "kernel")


def test_rejects_legs_of_two_connections(legs: Legs, joined: list[Joined]) -> None:
    near, _ = legs
    with (
        socket.create_server(("127.0.0.4", 0)) as elsewhere,
        socket.create_connection(elsewhere.getsockname(), 5, ("127.0.0.2", 0)) as far,
    ):
        _refused(_state(legs), near, far, "two legs")


def test_rejects_sockets_that_are_no_connections(legs: Legs, joined: list[Joined]) -> None:
    one, other = socket.socketpair()
    with one, other, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        _refused(_state(legs), one, other, "no TCP")
        _refused(_state(legs), datagrams, legs[1], "not connected")


def test_rejects_a_lease_that_was_revoked_or_is_another_flows(
    legs: Legs, joined: list[Joined], monkeypatch: pytest.MonkeyPatch
) -> None:
    state = _state(legs)
    (lease,) = state.book.leases.values()
    for changed in (
        replace(lease, key=replace(lease.key, service=Service(Protocol.TCP, 1))),
        replace(lease, offloads="as before"),
    ):
        state.book.leases[LEASE] = changed
        _refused(state, *legs, "another's")
    state.book.strike(LEASE)
    _refused(state, *legs, "no lease")

    def unknown(*_: object) -> Known:
        raise NetdError("kernel", "look up a connection: No such file or directory")

    monkeypatch.setattr(handover, "look_up", unknown)
    _refused(state, *legs, "No such file")


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def _speak(state: State, messages: list[tuple[bytes, list[int]]]) -> list[bytes]:
    async def run() -> list[bytes]:
        desk = Handover(state)
        answers = []
        with desk.admit() as inspector:
            for said, descriptors in messages:
                socket.send_fds(inspector, [said], descriptors)
                answers.append(await asyncio.get_running_loop().sock_recv(inspector, 256))
        desk.close()
        return answers

    return asyncio.run(run())


@pytest.mark.skipif(os.geteuid() != 0, reason="TCP_REPAIR needs CAP_NET_ADMIN")
def test_both_legs_become_one_with_the_port_that_the_server_sees(
    legs: Legs, joined: list[Joined], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handover, "why_apart", lambda *_, **__: None)  # loopback has timestamps
    descriptors = [one.fileno() for one in legs]
    before = _descriptors()
    assert _speak(_state(legs), [(HUSH, descriptors), (JOIN, descriptors)]) == [HANDED, HANDED]
    (one,) = joined
    assert (one.client, one.far, one.port) == (
        legs[0].getpeername(),
        legs[1].getsockname(),
        legs[1].getsockname()[1] + 1,
    )
    assert one.mark == LEASE | HANDED_BIT
    assert _descriptors() == before


def test_one_that_sends_no_pair_is_dismissed_and_nothing_is_kept(legs: Legs, joined: list[Joined]) -> None:
    before = _descriptors()
    assert _speak(_state(legs), [(HUSH, [legs[0].fileno()])]) == [b""]
    assert _descriptors() == before


def test_what_is_no_socket_is_refused_and_the_inspector_stays(legs: Legs, joined: list[Joined]) -> None:
    read, write = os.pipe()
    before = set(os.listdir("/proc/self/fd"))  # noqa: PTH208 - names only
    first, second = _speak(_state(legs), [(HUSH, [read, write]), (HUSH, [legs[0].fileno(), read])])
    assert first[:1] == second[:1] == APART
    assert set(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208
    os.close(read)
    os.close(write)


def test_a_leg_that_closes_with_a_reset_goes_on_to_do_so(legs: Legs, joined: list[Joined]) -> None:
    """Should its inspector be killed, an orderly end would make what has passed look whole."""
    legs[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
    _speak(_state(legs), [(HUSH, [one.fileno() for one in legs])])
    assert legs[0].getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8) == RESETS


def test_closing_a_leg_never_waits_for_its_peer(legs: Legs, joined: list[Joined]) -> None:
    """An inspector may have asked for that wait; it would be netd's, should its own copy be the last one."""
    legs[0].setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 3600))
    _speak(_state(legs), [(HUSH, [one.fileno() for one in legs])])
    assert struct.unpack("ii", legs[0].getsockopt(socket.SOL_SOCKET, socket.SO_LINGER, 8))[0] == 0


def test_a_connection_that_the_kernel_lost_is_said_to_be_lost(
    legs: Legs, joined: list[Joined], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(self: Handover, *_: object) -> None:
        raise NetdError("kernel", "join two connections: File exists")

    monkeypatch.setattr(Handover, "join", fails)
    assert _speak(_state(legs), [(JOIN, [one.fileno() for one in legs])]) == [LOST]
