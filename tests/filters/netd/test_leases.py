"""Leases with real packets: what passes, what a revocation cuts, and how fast."""

import socket
import time
from collections.abc import Iterator
from ipaddress import IPv4Address

import pytest

from filters.flow import FlowKey, Protocol, Service
from filters.netd.state import boottime
from filters.policy.compiled import CompiledPolicy, Pin
from filters.reason import DropReason
from filters.ruleset.sets import MAX_PEERS
from tests.filters.netd.daemon import Client, Daemon, eventually
from tests.filters.ruleset import policies
from tests.filters.ruleset.network import A, B
from tests.filters.ruleset.traffic import echoes, tcp_connect, tcp_echo

pytestmark = pytest.mark.netns

IP_A, IP_B = policies.address(A), policies.address(B)
DB = (str(IP_B), 5432)
CUT = 0.005
IPV4_FIRST = IPv4Address("10.80.0.1")


def tcp(port: int, source: IPv4Address = IP_A, destination: IPv4Address = IP_B) -> FlowKey:
    return FlowKey(source, destination, Service(Protocol.TCP, port))


@pytest.fixture
def flow(ready: Client, daemon: Daemon) -> Iterator[socket.socket]:
    ready.call(ready.netd.grant(7, tcp(5432), 30_000))
    guests = daemon.network.guests
    with tcp_echo(guests[B], 5432), tcp_connect(guests[A], DB) as connection:
        assert echoes(connection)
        yield connection


def passes(connection: socket.socket) -> bool:
    connection.settimeout(0.2)
    return echoes(connection)


def test_leased_flow_passes_and_nothing_counts_as_dropped(ready: Client, flow: socket.socket) -> None:
    assert all(echoes(flow, bytes([n])) for n in range(1, 50))
    assert not any(ready.call(ready.netd.counters()).values())


def test_no_lease_no_connection(ready: Client, daemon: Daemon) -> None:
    with tcp_echo(daemon.network.guests[B], 5432), pytest.raises(ConnectionRefusedError):
        tcp_connect(daemon.network.guests[A], DB)
    assert ready.call(ready.netd.counters())[DropReason.NO_SESSION] == 1


def test_reverse_open_from_leased_port_is_refused(ready: Client, flow: socket.socket, daemon: Daemon) -> None:
    with pytest.raises(OSError):
        tcp_connect(daemon.network.guests[B], (str(IP_A), flow.getsockname()[1]), port=5432)
    assert passes(flow)


def test_revoke_cuts_an_established_flow_at_once(ready: Client, flow: socket.socket) -> None:
    took = ready.timed(ready.netd.revoke([7, 4711]))
    assert not passes(flow)
    assert took <= CUT
    assert ready.call(ready.netd.snapshot()).leases == ()


def test_revoked_connection_is_told_and_then_forgotten(
    ready: Client, flow: socket.socket, daemon: Daemon
) -> None:
    ready.call(ready.netd.revoke([7]))
    with pytest.raises(ConnectionResetError):
        flow.sendall(b"x")
        flow.recv(1)
    assert ready.call(ready.netd.counters())[DropReason.LEASE_EXPIRED] >= 1
    assert eventually(
        lambda: "mark=7" not in daemon.network.gateway.run("conntrack", "-L", "-p", "tcp"), timeout=4
    )


def test_distrust_cuts_an_established_flow_at_once(ready: Client, flow: socket.socket) -> None:
    took = ready.timed(ready.netd.distrust(IP_B))
    assert not passes(flow)
    assert took <= CUT


def test_trust_in_the_past_distrusts(ready: Client, flow: socket.socket) -> None:
    ready.call(ready.netd.trust(IP_A, boottime() - 1))
    assert not passes(flow)


def test_trust_that_is_not_renewed_ends_the_flow_by_itself(ready: Client, flow: socket.socket) -> None:
    ready.call(ready.netd.trust(IP_A, boottime() + 0.4))
    assert passes(flow)
    time.sleep(0.5)
    assert not passes(flow)


def test_renewed_trust_keeps_the_flow(ready: Client, flow: socket.socket) -> None:
    for _ in range(10):
        ready.call(ready.netd.trust(IP_A, boottime() + 0.3))
        assert passes(flow)
        time.sleep(0.1)


def test_lease_ends_after_its_time(ready: Client, daemon: Daemon) -> None:
    ready.call(ready.netd.grant(9, tcp(5432), 400))
    guests = daemon.network.guests
    with tcp_echo(guests[B], 5432), tcp_connect(guests[A], DB) as connection:
        assert passes(connection)
        time.sleep(0.5)
        assert not passes(connection)
    assert ready.code(ready.netd.renew(9, 1000)) == "no-such-lease"


def test_a_lease_that_ran_out_before_the_next_grant_leaves_no_connection_behind(
    ready: Client, daemon: Daemon
) -> None:
    ready.call(ready.netd.grant(9, tcp(5432), 200))
    guests = daemon.network.guests
    with tcp_echo(guests[B], 5432), tcp_connect(guests[A], DB) as connection:
        assert passes(connection)
        time.sleep(0.3)
        ready.call(ready.netd.grant(10, tcp(8000), 30_000))  # strikes the other out
        ready.call(ready.netd.revoke([9]))
        known = daemon.network.gateway
        assert "mark=9" in known.run("conntrack", "-L", "-p", "tcp")
        assert eventually(lambda: "mark=9" not in known.run("conntrack", "-L", "-p", "tcp"), timeout=4)


def test_renewed_lease_goes_on(ready: Client, daemon: Daemon) -> None:
    ready.call(ready.netd.grant(9, tcp(5432), 400))
    guests = daemon.network.guests
    with tcp_echo(guests[B], 5432), tcp_connect(guests[A], DB) as connection:
        for _ in range(4):
            ready.call(ready.netd.renew(9, 400))
            time.sleep(0.25)
            assert passes(connection)


def test_newer_grant_of_a_key_leaves_the_older_connection_to_its_own_lease(
    ready: Client, flow: socket.socket, daemon: Daemon
) -> None:
    ready.call(ready.netd.grant(8, tcp(5432), 30_000))
    ready.call(ready.netd.revoke([7]))
    assert not passes(flow)
    with tcp_connect(daemon.network.guests[A], DB) as newer:
        assert passes(newer)
        (lease,) = ready.call(ready.netd.snapshot()).leases
        assert (lease.lease_id, lease.key) == (8, tcp(5432))


def test_authority_withdrawn_stops_everything(ready: Client, flow: socket.socket) -> None:
    took = ready.timed(ready.netd.authority(None))
    assert not passes(flow)
    assert took <= CUT
    assert ready.call(ready.netd.counters())[DropReason.COMMUNICATION_DISABLED] >= 1


def test_authority_that_ran_out_says_so(ready: Client, flow: socket.socket) -> None:
    ready.call(ready.netd.authority(boottime() + 0.1))
    time.sleep(0.2)
    assert not passes(flow)
    assert ready.call(ready.netd.counters())[DropReason.AUTHORITY_EXPIRED] >= 1
    ready.call(ready.netd.authority(None))
    ready.call(ready.netd.authority(boottime() - 1))  # a grant that was found expired
    assert ready.call(ready.netd.snapshot()).authority_ms is None
    assert not passes(flow)
    assert ready.call(ready.netd.counters())[DropReason.COMMUNICATION_DISABLED] == 0


def test_quarantine_cuts_and_its_end_does_not_trust(ready: Client, flow: socket.socket) -> None:
    ready.call(ready.netd.quarantine(IP_A, True))
    ready.call(ready.netd.quarantine(IP_A, True))
    assert not passes(flow)
    assert ready.call(ready.netd.counters())[DropReason.PEER_QUARANTINED] >= 1
    assert ready.call(ready.netd.snapshot()).quarantined == (IP_A,)
    ready.call(ready.netd.quarantine(IP_A, False))
    assert ready.call(ready.netd.snapshot()).quarantined == ()
    assert not passes(flow)


def test_rejects_trust_in_quarantine(ready: Client, flow: socket.socket) -> None:
    ready.call(ready.netd.quarantine(IP_A, True))
    assert ready.code(ready.netd.trust(IP_A, boottime() + 10)) == "quarantined"
    assert not passes(flow)
    assert IP_A not in ready.call(ready.netd.snapshot()).trusted
    ready.call(ready.netd.quarantine(IP_A, False))
    ready.call(ready.netd.trust(IP_A, boottime() + 10))
    assert IP_A in ready.call(ready.netd.snapshot()).trusted


def test_a_quarantine_outlives_its_peers_place_in_the_policy_and_can_be_ended_without_it(
    ready: Client,
) -> None:
    ready.call(ready.netd.quarantine(IP_A, True))
    ready.call(ready.netd.load_policy(policies.empty()))
    ready.call(ready.netd.quarantine(IP_B, True))
    assert ready.call(ready.netd.snapshot()).quarantined == (IP_A, IP_B)
    for ip in (IP_A, IP_B):
        ready.call(ready.netd.quarantine(ip, False))
    assert ready.call(ready.netd.snapshot()).quarantined == ()


def test_rejects_grant_without_rule(ready: Client) -> None:
    assert ready.code(ready.netd.grant(9, tcp(22), 1000)) == "not-permitted"
    assert ready.code(ready.netd.grant(9, tcp(5432, IP_B, IP_A), 1000)) == "not-permitted"


def test_rejects_lease_id_in_force(ready: Client) -> None:
    ready.call(ready.netd.grant(9, tcp(5432), 30_000))
    assert ready.code(ready.netd.grant(9, tcp(8000), 30_000)) == "lease-id-in-use"


def test_rejects_lease_id_zero_and_time_zero(ready: Client) -> None:
    assert ready.code(ready.netd.grant(0, tcp(5432), 1000)) == "malformed"
    assert ready.code(ready.netd.grant(9, tcp(5432), 0)) == "malformed"


def test_rejects_peer_the_policy_does_not_pin(ready: Client) -> None:
    assert ready.code(ready.netd.trust(IP_A + 9, boottime() + 1)) == "unknown-peer"


def test_rejects_everything_before_a_policy(client: Client) -> None:
    assert client.code(client.netd.trust(IP_A, boottime() + 1)) == "no-policy"
    assert client.code(client.netd.grant(9, tcp(5432), 1000)) == "no-policy"
    assert client.code(client.netd.authority(boottime() + 1)) == "no-policy"
    assert client.code(client.netd.snapshot()) == "no-policy"
    assert client.code(client.netd.read_back()) == "no-policy"


def test_policy_that_drops_the_rule_cuts_its_lease_and_keeps_the_rest(
    ready: Client, flow: socket.socket
) -> None:
    ready.call(ready.netd.grant(8, tcp(8000), 30_000))
    small = policies.small()
    allowed = tuple(one for one in small.allowed if one.first != 5432)
    narrower = CompiledPolicy(
        "1" * 64, "eth0", policies.GATEWAY, policies.CONTROL_PORT, small.pins, allowed, small.denied
    )
    assert ready.call(ready.netd.load_policy(narrower)) == (7,)
    assert not passes(flow)
    snapshot = ready.call(ready.netd.snapshot())
    assert [lease.lease_id for lease in snapshot.leases] == [8]
    assert set(snapshot.trusted) == {IP_A, IP_B}


def test_same_policy_again_keeps_an_established_flow(ready: Client, flow: socket.socket) -> None:
    assert ready.call(ready.netd.load_policy(policies.small())) == ()
    assert passes(flow)


def test_policy_without_a_peer_takes_its_trust(ready: Client) -> None:
    small = policies.small()
    alone = CompiledPolicy("1" * 64, "eth0", policies.GATEWAY, policies.CONTROL_PORT, small.pins[:1], (), ())
    ready.call(ready.netd.load_policy(alone))
    assert set(ready.call(ready.netd.snapshot()).trusted) == {IP_A}


def test_rejects_policy_for_another_interface(ready: Client) -> None:
    other = CompiledPolicy("1" * 64, "eth9", policies.GATEWAY, 1, (), (), ())
    assert ready.code(ready.netd.load_policy(other)) == "malformed"


def test_rejects_no_quarantine_for_want_of_room(client: Client) -> None:
    """Also with as many peers trusted as there may be: what is to be removed is added first."""
    pins = tuple(
        Pin(IPV4_FIRST + one, f"52:54:00:ab:{one >> 8:02x}:{one & 0xFF:02x}", f"peer-{one}")
        for one in range(MAX_PEERS)
    )
    client.call(client.netd.load_policy(policies.policy(pins, ())))
    until, stranger = boottime() + 60, IPV4_FIRST + MAX_PEERS

    async def trust_all() -> None:
        for pin in pins:
            await client.netd.trust(pin.ip, until)

    client.call(trust_all())
    client.call(client.netd.distrust(stranger))
    client.call(client.netd.quarantine(stranger, True))
    snapshot = client.call(client.netd.snapshot())
    assert (len(snapshot.trusted), snapshot.quarantined) == (MAX_PEERS, (stranger,))
