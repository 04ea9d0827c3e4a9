"""`quotegate-agent open` and `connect`: open a session; carry stdin to the peer and its answer to stdout, and say what arrived."""

import asyncio
import fcntl
import os
import socket
import struct
import sys
from dataclasses import dataclass
from pathlib import Path

from filters.flow import Protocol, Service
from filters.policy.services import parse_service
from gateway.errors import GatewayError
from gateway.rpc import Payload, RpcClient

SIOCOUTQ = 0x5411
ACKED_WITHIN_S = 5.0
AGENT_WITHIN_S = 15.0  # it waits 5 s itself for the gateway
CHUNK = 65536


@dataclass(frozen=True, slots=True)
class Transfer:
    """What came of a connection. `complete`: acknowledged by B's TCP and confirmed by B's agent."""

    sent: int
    acknowledged: int
    confirmed: int
    complete: bool


@dataclass(frozen=True, slots=True)
class Opened:
    """A session: with what address, and for how long."""

    session_id: str
    ip: str
    lease_s: float


async def ask_agent(rpc: RpcClient, op: str, **params: object) -> Payload:
    """Ask this machine's agent; raises GatewayError, also for one that is stopped or hangs."""
    try:
        async with asyncio.timeout(AGENT_WITHIN_S):
            return await rpc.call(op, **params)
    except TimeoutError:
        raise GatewayError(
            "no-answer",
            f"the agent took the question and did not answer within {AGENT_WITHIN_S:.0f} s; look at it: "
            "systemctl status quotegate-agent",
        ) from None


async def open_session(agent_socket: Path, peer: str, service: str) -> Opened:
    """Open a session, or find it open. Raises GatewayError with the reason of a refusal."""
    _parse(service)
    rpc = await RpcClient.connect(agent_socket)
    try:
        return await _ask(rpc, peer, service)
    finally:
        rpc.close()


async def connect(agent_socket: Path, peer: str, service: str) -> Transfer:
    """Run one transfer; raises GatewayError with the gateway's reason when it is refused."""
    port_there = _tcp_port(service)
    rpc = await RpcClient.connect(agent_socket)
    session = await _ask(rpc, peer, service)
    sock = await _open(session.ip, port_there)
    try:
        port = int(sock.getsockname()[1])
        sent, whole = await _carry(sock, sys.stdin.fileno())
        acknowledged = sent - await _unacknowledged(sock, ACKED_WITHIN_S if whole else 0.0)
    finally:
        sock.close()
    report = await ask_agent(rpc, "delivery", session_id=session.session_id, port=port, sent=sent)
    confirmed = int(str(report["received"]))
    return Transfer(sent, acknowledged, confirmed, bool(report["complete"]) and acknowledged == sent)


async def _ask(rpc: RpcClient, peer: str, service: str) -> Opened:
    answer = await ask_agent(rpc, "open", peer=peer, service=service)
    if not answer["granted"]:
        raise GatewayError(
            str(answer["reason"]), str(answer["detail"]) or f"the gateway refused {service} of {peer}"
        )
    return Opened(str(answer["session_id"]), str(answer["ip"]), int(str(answer["lease_ms"])) / 1000)


def _parse(service: str) -> Service:
    try:
        return parse_service(service)
    except ValueError as error:
        raise GatewayError("bad-service", str(error)) from error


def _tcp_port(service: str) -> int:
    known = _parse(service)
    if known.protocol is not Protocol.TCP:
        raise GatewayError(
            "bad-service",
            f"expected tcp/PORT, whose bytes stdin and stdout can carry; got {service}: "
            "`quotegate-agent open` opens its session for other programs",
        )
    return known.port


async def _open(ip: str, port: int) -> socket.socket:
    sock = socket.socket()
    sock.setblocking(False)
    try:
        async with asyncio.timeout(5.0):
            await asyncio.get_running_loop().sock_connect(sock, (ip, port))
    except (OSError, TimeoutError) as error:
        sock.close()
        raise GatewayError(
            "not-connected", f"{ip} port {port} does not take the connection: {error or 'timed out'}"
        ) from error
    return sock


@dataclass(slots=True)
class _Sent:
    """How many bytes went out so far."""

    count: int = 0


async def _carry(sock: socket.socket, source: int) -> tuple[int, bool]:
    """Copy `source` there and the answer to stdout, until both are done or one broke; return the bytes sent, and whether it ended well."""
    sent = _Sent()
    tasks = asyncio.create_task(_send_all(sock, source, sent)), asyncio.create_task(_receive(sock))
    # a connection that was cut ends it at once, also while the input is silent
    _, unfinished = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    for task in unfinished:
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, OSError):
            raise outcome
    return sent.count, all(outcome is None for outcome in outcomes)


async def _send_all(sock: socket.socket, source: int, sent: _Sent) -> None:
    """Send what comes until its end; `sent` tells how much, also when it breaks off."""
    while chunk := await _input(source):
        view = memoryview(chunk)
        while view:
            count = await _send_some(sock, view)
            sent.count += count
            view = view[count:]
    sock.shutdown(socket.SHUT_WR)


async def _input(source: int) -> bytes:
    """Wait for input, and take it."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    try:
        loop.add_reader(source, ready.set)
    except PermissionError:  # epoll(7) takes no file: that is always ready
        return os.read(source, CHUNK)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(source)
    return os.read(source, CHUNK)


async def _send_some(sock: socket.socket, view: memoryview) -> int:
    while True:
        try:
            return sock.send(view)
        except BlockingIOError:
            await _writable(sock)


async def _writable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[None] = loop.create_future()

    def ready() -> None:
        if not future.done():
            future.set_result(None)

    loop.add_writer(sock, ready)
    try:
        await future
    finally:
        loop.remove_writer(sock)


async def _receive(sock: socket.socket) -> None:
    while data := await asyncio.get_running_loop().sock_recv(sock, CHUNK):
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


async def _unacknowledged(sock: socket.socket, within_s: float) -> int:
    """Wait until B's TCP has acknowledged everything; return what it has not (ioctl SIOCOUTQ, tcp(7))."""
    deadline = asyncio.get_running_loop().time() + within_s
    while True:
        (waiting,) = struct.unpack("i", fcntl.ioctl(sock, SIOCOUTQ, bytes(4)))
        if not waiting or asyncio.get_running_loop().time() > deadline:
            return int(waiting)
        await asyncio.sleep(0.01)
