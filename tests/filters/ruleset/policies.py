"""Compiled policies for the tests of the ruleset: nothing, a few keys, and twenty peers."""

from ipaddress import IPv4Address

from filters.flow import Protocol
from filters.policy.compiled import CompiledPolicy, KeyRange, Pin

GATEWAY = IPv4Address("10.77.0.1")
CONTROL_PORT = 7400


def address(number: int) -> IPv4Address:
    return GATEWAY + number


def mac(number: int) -> str:
    return f"52:54:00:aa:00:{number:02x}"


def pin(number: int) -> Pin:
    return Pin(ip=address(number), mac=mac(number), peer=f"peer-{number}")


def key(
    source: int, destination: int, protocol: Protocol, first: int, last: int | None = None, *, on_demand=False
) -> KeyRange:
    return KeyRange(
        source=address(source),
        destination=address(destination),
        protocol=protocol,
        first=first,
        last=first if last is None else last,
        on_demand=on_demand,
        lease_ms=300_000,
        rule=f"{source}-to-{destination}",
    )


def policy(
    pins: tuple[Pin, ...], allowed: tuple[KeyRange, ...], denied: tuple[KeyRange, ...] = ()
) -> CompiledPolicy:
    return CompiledPolicy(
        revision="0" * 64,
        interface="eth0",
        gateway_ip=GATEWAY,
        control_port=CONTROL_PORT,
        pins=pins,
        allowed=allowed,
        denied=denied,
    )


def empty() -> CompiledPolicy:
    return policy((), ())


def small() -> CompiledPolicy:
    """Peer 1 may open to peer 2; peer 2 may open nothing."""
    allowed = (
        key(1, 2, Protocol.TCP, 5432),
        key(1, 2, Protocol.TCP, 8000, 8099, on_demand=True),
        key(1, 2, Protocol.UDP, 5300),
        key(1, 2, Protocol.ICMP, 0),
    )
    return policy((pin(1), pin(2)), allowed, (key(1, 2, Protocol.TCP, 22), key(2, 1, Protocol.ICMP, 0)))


def twenty() -> CompiledPolicy:
    """A ring of twenty peers, every one with a database port, a range on demand and echo."""
    allowed: list[KeyRange] = []
    for one in range(1, 21):
        other = one % 20 + 1
        allowed += [
            key(one, other, Protocol.TCP, 5432),
            key(one, other, Protocol.UDP, 1000 + one, 2000 + one, on_demand=True),
            key(one, other, Protocol.ICMP, 0, on_demand=True),
        ]
    denied = tuple(key(one, one % 20 + 1, Protocol.TCP, 1, 1023) for one in range(1, 21, 4))
    return policy(tuple(pin(number) for number in range(1, 21)), tuple(allowed), denied)
