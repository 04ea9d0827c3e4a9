"""Programs for guests: `python -m tests.lab.traffic client|stranger …`. They know nothing of the gateway's state.

client: ask the agent for a session, keep a connection going, begin anew whenever it breaks; tell each grant and
each time that everything sent was acknowledged. stranger: send what nobody permitted, for ever.
"""

import fcntl
import json
import random
import socket
import struct
import sys
import time
from typing import Any

from gateway.agent.connect import SIOCOUTQ
from gateway.rpc import encode

GIVE_UP_MS = 600
EVERY_S = 0.004


def tell(**what: object) -> None:
    """Print one JSON line with the time."""
    print(json.dumps({"at": time.time(), **what}), flush=True)


def ask(agent: str, request: dict[str, object]) -> dict[str, Any]:
    """Ask the agent; an empty answer when it does not answer."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(6)
            sock.connect(agent)
            sock.sendall(encode(request))
            (length,) = struct.unpack(">I", sock.recv(4, socket.MSG_WAITALL))
            answer: dict[str, Any] = json.loads(sock.recv(length, socket.MSG_WAITALL))
            return answer
    except (OSError, struct.error):
        return {}


def client(agent: str, peer: str, port: int) -> None:
    """Keep traffic going."""
    while True:
        answer = ask(agent, {"op": "open", "peer": peer, "service": f"tcp/{port}"})
        if not answer.get("granted"):
            time.sleep(0.05)
            continue
        tell(granted=answer["session_id"])
        try:
            _talk(answer["ip"], port)
        except OSError as error:
            tell(broke=str(error))


def _talk(ip: str, port: int) -> None:
    with socket.create_connection((ip, port), timeout=1) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, GIVE_UP_MS)
        sent = 0
        while True:
            sock.sendall(b"x" * 64)
            sent += 1
            time.sleep(EVERY_S)
            if sent % 25 == 0 and not struct.unpack("i", fcntl.ioctl(sock, SIOCOUTQ, b"\0" * 4))[0]:
                tell(flowing=sent)


def stranger(target: str, disguise: str, ports: list[int]) -> None:
    """Send datagrams and open connections to all kinds of ports; where `disguise` is an address, as if from it too."""
    datagrams = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    raw = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW)
    header = struct.pack(">BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0)
    while True:
        port = random.choice([*ports, random.randrange(10_000, 65_536)])
        attempts = [
            lambda port=port: datagrams.sendto(b"UNLEASED", (target, port)),
            lambda port=port: _knock(target, port),
        ]
        if disguise != "-":
            forged = header + socket.inet_aton(disguise) + socket.inet_aton(target)
            forged += struct.pack(">HHHH", 1000, port, 16, 0) + b"UNLEASED"
            attempts.append(lambda forged=forged: raw.sendto(forged, (target, 0)))
        for attempt in attempts:
            try:
                attempt()
            except OSError:
                continue
        time.sleep(EVERY_S)


def _knock(target: str, port: int) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect((target, port))


def main() -> None:
    """Run the role named on the command line."""
    match sys.argv[1:]:
        case ["client", agent, peer, port]:
            client(agent, peer, int(port))
        case ["stranger", target, disguise, *ports]:
            stranger(target, disguise, [int(one) for one in ports])


if __name__ == "__main__":
    main()
