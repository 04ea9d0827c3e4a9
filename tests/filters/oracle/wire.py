"""A gateway and its one wire in namespaces: frames of all peers go in, what the kernel forwards comes back.

The verdict is the kernel's own: a frame that leaves the gateway again, or the counter of one reason.
"""

import json
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import nftables

from filters.flow import Protocol
from filters.policy.evaluator import AuthorityState, Request
from filters.reason import DropReason
from filters.ruleset.compiler import compile_ruleset
from filters.ruleset.features import Features
from filters.ruleset.names import COUNTERS
from filters.ruleset.sysctls import GATEWAY_SYSCTLS, GATEWAY_SYSCTLS_IF_PRESENT
from tests.filters.oracle.cases import GATEWAY, PEERS, Case, address, key_of, mac
from tests.filters.ruleset.network import Namespace
from tests.inside import inside

GATEWAY_MAC = "52:54:00:cc:00:fe"
FORWARDED = "forwarded"


class Wire:
    """The gateway's namespace with the ruleset, and a raw socket at the other end of its card."""

    def __init__(self) -> None:
        prefix = f"qg-t{os.getpid()}"
        self.gateway = Namespace(f"{prefix}-gw")
        self.outside = Namespace(f"{prefix}-host")
        self._connect()
        self._nft = self.gateway.call(nftables.Nftables)
        self.gateway.call(self._nft.set_json_output, False)
        with inside(self.outside.name):
            self._raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        self._raw.bind(("wire", 0))
        self._raw.setblocking(False)
        self._serial = 0

    def _connect(self) -> None:
        self.outside.ip(
            "link", "add", "wire", "type", "veth", "peer", "name", "eth0", "netns", self.gateway.name
        )
        self.outside.sysctl("net/ipv6/conf/wire/disable_ipv6", "1", optional=True)
        self.outside.ip("link", "set", "wire", "up")
        self.gateway.ip("link", "set", "eth0", "address", GATEWAY_MAC, "up")
        self.gateway.ip("address", "add", f"{GATEWAY}/24", "dev", "eth0")
        for path, value in GATEWAY_SYSCTLS:
            self.gateway.sysctl(path.format(interface="eth0"), value)
        for path, value in GATEWAY_SYSCTLS_IF_PRESENT:
            self.gateway.sysctl(path.format(interface="eth0"), value, optional=True)
        for peer in PEERS:
            self.gateway.ip(
                "neigh", "replace", str(address(peer)), "lladdr", mac(peer), "dev", "eth0", "nud", "permanent"
            )

    def close(self) -> None:
        self._raw.close()
        self.gateway.close()
        self.outside.close()

    def load(self, case: Case) -> None:
        """Load the case's ruleset and everything that is true in it."""
        text = compile_ruleset(
            case.compiled, Features(native_queue=False, timeout_update=False, handover=True)
        )
        self._run(text + "".join(_facts(case)))

    def _run(self, text: str) -> str:
        code, output, errors = self.gateway.call(self._nft.cmd, text)
        assert code == 0, errors
        return str(output)

    def verdict(self, request: Request) -> str:
        """Send one packet that opens this flow; return `forwarded`, or the reason that counted it."""
        before = self._counters()
        self._serial = self._serial % 30000 + 1
        frame = _frame(request, self._serial)
        self._drain()
        self._raw.send(frame)
        forwarded = any(got[12:] == _as_routed(frame)[12:] and got[:6] != frame[:6] for got in self._drain())
        after = self._counters()
        counted = [reason for reason in after if after[reason] != before[reason]]
        assert len(counted) + forwarded == 1, f"{request}: forwarded {forwarded}, counted {counted}"
        return FORWARDED if forwarded else counted[0]

    def _drain(self) -> list[bytes]:
        found = []
        while True:
            try:
                data, place = self._raw.recvfrom(2048)
            except BlockingIOError:
                return found
            if place[2] != socket.PACKET_OUTGOING:
                found.append(data)

    def _counters(self) -> dict[str, int]:
        listed = json.loads(self._json("list counters table inet quotegate"))
        counters = [entry["counter"] for entry in listed["nftables"] if "counter" in entry]
        return {str(COUNTERS[one["name"]]): one["packets"] for one in counters}

    def _json(self, text: str) -> str:
        self._nft.set_json_output(True)
        try:
            return self._run(text)
        finally:
            self._nft.set_json_output(False)


def _facts(case: Case) -> Iterator[str]:
    def add(name: str, element: str) -> str:
        return f"add element inet quotegate {name} {{ {element} }}\n"

    if case.authority is not AuthorityState.ABSENT:
        yield add("authority_had", '"eth0"')
    if case.authority is AuthorityState.VALID:
        yield add("authority", '"eth0" timeout 1m')
    for name, state in case.states.items():
        if state == "trusted":
            yield add("trusted", f"{address(name)} timeout 1m")
        if state == "quarantined":
            yield add("quarantined", str(address(name)))
    for number, key in enumerate(sorted(case.open_keys), 1):
        pair = f"{key.source} . {key.destination}"
        if key.service.protocol is Protocol.ICMP:
            yield add("lease_icmp", f"{pair} timeout 1m : {number}")
        else:
            ports = f"{key.service.protocol.name.lower()} . {key.service.port}"
            yield add("lease", f"{pair} . {ports} timeout 1m : {number}")
        yield add("live", f"{number} timeout 1m")


@contextmanager
def wire() -> Iterator[Wire]:
    made = Wire()
    try:
        yield made
    finally:
        made.close()


def expected(case: Case, request: Request) -> set[str]:
    """Return what the kernel may say where the evaluator decides so.

    Several conditions can fail at once, and the kernel asks for trust before it looks at rules, so that strangers fill no
    table: its reason is then another one of those that the evaluator lists as failed.
    """
    decision = case.decide(request)
    if decision.reason is None:
        held = decision.on_demand and key_of(request) not in case.open_keys
        return {str(DropReason.HOLD_TIMEOUT)} if held else {FORWARDED}
    return set(_failed_reasons(case, request))


def _failed_reasons(case: Case, request: Request) -> Iterator[str]:
    failed = {one.name for one in case.decide(request).conditions if not one.holds}
    if "authority" in failed:
        expired = case.authority is AuthorityState.EXPIRED
        yield DropReason.AUTHORITY_EXPIRED if expired else DropReason.COMMUNICATION_DISABLED
    for end, name in (("source-trusted", request.source), ("destination-trusted", request.destination)):
        if end in failed:
            quarantined = case.states[name] == "quarantined"
            yield DropReason.PEER_QUARANTINED if quarantined else DropReason.NOT_ATTESTED
    if "rule" in failed:
        denied = case.compiled.denies(key_of(request)) is not None
        yield DropReason.DENIED_BY_RULE if denied else DropReason.NO_RULE
    elif "session" in failed:
        yield DropReason.NO_SESSION


def _checksum(data: bytes) -> int:
    total = sum(struct.unpack(f">{len(data) // 2}H", data if len(data) % 2 == 0 else data + b"\0"))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _frame(request: Request, serial: int) -> bytes:
    source, destination = address(request.source), address(request.destination)
    body = _transport(request, source, destination, serial)
    header = struct.pack(
        ">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), serial, 0x4000, 64, request.service.protocol, 0, source.packed, destination.packed,
    )  # fmt: skip
    header = header[:10] + struct.pack(">H", _checksum(header)) + header[12:]
    macs = bytes.fromhex((GATEWAY_MAC + mac(request.source)).replace(":", ""))
    return macs + b"\x08\0" + header + body


def _transport(request: Request, source: IPv4Address, destination: IPv4Address, serial: int) -> bytes:
    protocol, port, own = request.service.protocol, request.service.port, 20000 + serial
    match protocol:
        case Protocol.ICMP:
            body, at = struct.pack(">BBHHH", 8, 0, 0, own, 1), 2
        case Protocol.UDP:
            body, at = struct.pack(">HHHH", own, port, 8, 0), 6
        case _:
            body, at = struct.pack(">HHIIBBHHH", own, port, serial, 0, 0x50, 2, 1024, 0, 0), 16
    pseudo = (
        b""
        if protocol is Protocol.ICMP
        else source.packed + destination.packed + struct.pack(">BBH", 0, protocol, len(body))
    )
    return body[:at] + struct.pack(">H", _checksum(pseudo + body)) + body[at + 2 :]


def _as_routed(frame: bytes) -> bytes:
    """Return the frame with a time to live one less, as a router passes it on."""
    header = frame[14:22] + bytes([frame[22] - 1]) + frame[23:24] + b"\0\0" + frame[26:34]
    return frame[:14] + header[:10] + struct.pack(">H", _checksum(header)) + header[12:] + frame[34:]
