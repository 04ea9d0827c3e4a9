"""Name a flow: addresses, protocol and port, as policy, kernel and events share it."""

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address


class Protocol(IntEnum):
    """IP protocol numbers a service can have (IANA protocol numbers)."""

    ICMP = 1
    TCP = 6
    UDP = 17


@dataclass(frozen=True, slots=True, order=True)
class Service:
    """A service as policy writes it: `tcp/5432`, `udp/53`, `icmp/echo` (port 0)."""

    protocol: Protocol
    port: int

    def __str__(self) -> str:
        if self.protocol is Protocol.ICMP:
            return "icmp/echo"
        return f"{self.protocol.name.lower()}/{self.port}"


@dataclass(frozen=True, slots=True, order=True)
class FlowKey:
    """The key of a lease: who opens what to whom. ICMP echo has port 0."""

    source: IPv4Address
    destination: IPv4Address
    service: Service

    def __str__(self) -> str:
        return f"{self.source} -> {self.destination} {self.service}"
