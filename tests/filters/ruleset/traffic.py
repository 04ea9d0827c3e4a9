"""Real traffic between namespaces: TCP and UDP echo by sockets, single packets by scapy, and a sniffer."""

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.layers.l2 import Ether
from scapy.packet import Packet

from tests.filters.ruleset import policies
from tests.filters.ruleset.network import GATEWAY_MAC, Namespace

ETH_P_ALL = 3
FORGET = struct.pack("ii", 1, 0)  # SO_LINGER: closing leaves nothing that would be sent again later
WAIT = 0.4  # seconds after which a packet that has not come does not come


def tcp_connect(space: Namespace, to: tuple[str, int], port: int = 0, timeout: float = WAIT) -> socket.socket:
    """Connect, or raise what a program would see: TimeoutError, ConnectionRefusedError, OSError."""
    client = space.call(socket.socket, socket.AF_INET, socket.SOCK_STREAM)
    try:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, FORGET)
        client.settimeout(timeout)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)  # a server's port, too
        client.bind(("", port))
        client.connect(to)
    except BaseException:
        client.close()
        raise
    return client


def udp_socket(space: Namespace, port: int = 0, to: tuple[str, int] | None = None) -> socket.socket:
    client = space.call(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    client.settimeout(WAIT)
    client.bind(("", port))
    if to is not None:
        client.connect(to)
    return client


@contextlib.contextmanager
def tcp_echo(space: Namespace, port: int) -> Iterator[None]:
    """Serve echo on every address of `space` until the block ends."""
    listener = space.call(socket.socket, socket.AF_INET, socket.SOCK_STREAM)
    for option in (socket.SO_REUSEADDR, socket.SO_REUSEPORT):
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
    listener.bind(("", port))
    listener.listen(64)
    accepted: list[socket.socket] = []

    def serve(connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            while data := connection.recv(65536):
                connection.sendall(data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, FORGET)
                accepted.append(connection)
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield
    finally:
        for one in (listener, *accepted):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def echoes(client: socket.socket, data: bytes = b"ping") -> bool:
    """Say whether `data` came back in time; whatever a program would see as failure is False."""
    try:
        client.sendall(data)
        return client.recv(65536) == data
    except OSError:
        return False


def transfer(client: socket.socket, data: bytes) -> bytes:
    """Send `data` to an echo server and return all that came back."""
    sender = threading.Thread(target=client.sendall, args=(data,), daemon=True)
    sender.start()
    received = bytearray()
    while len(received) < len(data) and (part := client.recv(1 << 18)):
        received += part
    sender.join(timeout=5)
    return bytes(received)


def send(space: Namespace, *packets: Packet) -> None:
    """Put the frames on the wire as they are."""
    with space.call(socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0) as wire:
        wire.bind(("eth0", 0))
        for packet in packets:
            wire.send(bytes(packet))
    time.sleep(0.02)  # softirq on the other side


def frame(source: int, destination: int, **fields: object) -> Packet:
    """Return Ethernet and IP headers from guest `source` to guest `destination`, by way of the gateway."""
    addresses = {"src": str(policies.address(source)), "dst": str(policies.address(destination))}
    return Ether(src=policies.mac(source), dst=GATEWAY_MAC) / IP(**(addresses | fields))


class Sniffer:
    """All IPv4 frames that arrive at a guest while the block runs."""

    def __init__(self, space: Namespace) -> None:
        self._space = space

    def __enter__(self) -> "Sniffer":
        self._wire = self._space.call(
            socket.socket, socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)
        )
        self._wire.bind(("eth0", ETH_P_ALL))
        self._wire.settimeout(0.05)
        return self

    def __exit__(self, *_: object) -> None:
        self._wire.close()

    def packets(self) -> list[Packet]:
        found = []
        with contextlib.suppress(TimeoutError):
            while True:
                data, where = self._wire.recvfrom(65536)
                if where[2] != socket.PACKET_OUTGOING and struct.unpack_from("!H", data, 12)[0] == 0x0800:
                    found.append(Ether(data))
        return found


__all__ = [
    "ICMP",
    "IP",
    "TCP",
    "UDP",
    "Sniffer",
    "echoes",
    "frame",
    "send",
    "tcp_connect",
    "tcp_echo",
    "transfer",
    "udp_socket",
]
