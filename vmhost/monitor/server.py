"""The monitor's socket: answer requests of `vmhost.monitor.protocol` (the wire format is documented there)."""

import asyncio
import json
import socket
import time
from collections import Counter
from pathlib import Path
from subprocess import SubprocessError

from authn.errors import AuthnError
from hostlink.endpoint import Streams, uid_of
from vmhost.errors import HostError
from vmhost.log import say
from vmhost.monitor import protocol
from vmhost.monitor.budget import Budget
from vmhost.monitor.monitor import Monitor
from vmhost.monitor.protocol import LENGTH, MAX_MESSAGE, ROOT, Payload, Request
from vmhost.names import AGENT_UID, GATEWAY_UID

MOST_OF_ONE, MOST = 64, 256  # connections of one uid but root, and of all strangers
_KNOWN = (ROOT, GATEWAY_UID, AGENT_UID)
LOGGED, LOGGED_WITHIN_S, LONGEST_REASON = 5, 60.0, 200  # for each guest
IDLE_S = 30.0  # those of others than root are closed when nothing is asked, or no answer taken, for so long


class MonitorServer:
    """Answer requests to one monitor. Anybody may connect, so nobody may have all descriptors."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self.shutdown = asyncio.Event()
        self._conversations: set[asyncio.Task[None]] = set()
        self._open: Counter[int] = Counter()  # by uid
        self._logged: dict[str, Budget] = {}  # by guest

    async def serve(self, path: Path) -> None:
        """Serve until cancelled."""
        path.unlink(missing_ok=True)
        server = await asyncio.start_unix_server(self._connected, path)
        path.chmod(0o666)
        async with server:
            await server.serve_forever()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        uid = uid_of(writer)
        if not self._admit(uid):
            writer.close()
            return
        await self._converse(reader, writer, uid)

    def _admit(self, uid: int) -> bool:
        """Count a connection at once; False when there are too many. Strangers can't take the places of gateway and agents."""
        strangers = self._open.total() - sum(self._open[one] for one in _KNOWN)
        full = self._open[uid] >= MOST_OF_ONE or (uid not in _KNOWN and strangers >= MOST)
        if uid != ROOT and full:
            return False
        self._open[uid] += 1
        return True

    async def for_gateway(self) -> Streams:
        """Open a connection on behalf of the gateway's VM: it has the gateway's rights here, whatever it says.

        Raises OSError when it has too many.
        """
        if not self._admit(GATEWAY_UID):
            raise OSError("the gateway has as many connections as may be")
        try:
            theirs, ours = socket.socketpair()
            reader, writer = await asyncio.open_unix_connection(sock=ours)
        except OSError:
            self._open[GATEWAY_UID] -= 1
            raise
        task = asyncio.create_task(self._converse(reader, writer, GATEWAY_UID), name="the gateway's VM")
        self._conversations.add(task)
        task.add_done_callback(self._conversations.discard)
        return await asyncio.open_unix_connection(sock=theirs)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, uid: int) -> None:
        patience_s = None if uid == ROOT else IDLE_S
        try:
            while True:
                async with asyncio.timeout(patience_s):
                    (length,) = LENGTH.unpack(await reader.readexactly(LENGTH.size))
                    if length > MAX_MESSAGE:
                        break
                    untrusted = await reader.readexactly(length)
                writer.write(protocol.encode(await self._answer(untrusted, uid)))
                async with asyncio.timeout(patience_s):
                    await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError, TimeoutError):
            pass
        finally:
            self._open[uid] -= 1
            writer.close()

    async def _answer(self, untrusted: bytes, uid: int) -> Payload:
        try:
            return {"ok": True, **await self._carry_out(protocol.parse(untrusted, uid))}
        except (HostError, AuthnError) as error:
            return {"ok": False, "code": error.code, "message": error.message}
        except (OSError, SubprocessError) as error:
            return {"ok": False, "code": "failed", "message": str(error)}

    async def _carry_out(self, request: Request) -> Payload:
        monitor = self._monitor
        match request:
            case protocol.Status():
                return monitor.status()
            case protocol.ListVms():
                return monitor.vms()
            case protocol.VmEvidence(name=name):
                return await monitor.vm_evidence(name)
            case (
                protocol.CheckUpdate()
                | protocol.ApplyUpdate()
                | protocol.RollBackUpdate()
                | protocol.CommitUpdate()
                | protocol.UpdateStatus()
            ):
                return await self._update(request)
        await self._act(request)
        return {}

    async def _act(self, request: Request) -> None:
        monitor = self._monitor
        match request:
            case protocol.RestartPeer(peer=peer, reason=reason):
                monitor.machine(peer)  # a name that is no guest's does not get into the log
                self._tell(
                    peer, f"{peer} is to be restarted: {reason[:LONGEST_REASON] or 'no reason was given'}"
                )
                await monitor.restart_peer(peer)
            case protocol.ReportGatewayRefused(peer=peer, reason=reason):
                await monitor.gateway_refused(
                    peer, json.dumps(reason[:LONGEST_REASON])[1:-1]
                )  # one line, printable
            case protocol.RestartGateway(reset_tpm=reset_tpm):
                await monitor.restart_gateway("at an operator's word", reset_tpm=reset_tpm, by_operator=True)
            case protocol.ReplaceInspector() | protocol.EndInspector():
                await self._change_inspectors(request)
            case protocol.StartMachine(name=name):
                await monitor.start_machine(name)
            case protocol.StopMachine(name=name):
                await monitor.stop_machine(name)
            case protocol.Pause(on=on):
                monitor.unit.paused = on
            case protocol.Shutdown():
                self.shutdown.set()

    def _tell(self, guest: str, what: str) -> None:
        """Log a line about a guest, a few in a minute: a gateway that was taken over must not fill the host's disk."""
        if self._logged.setdefault(guest, Budget(LOGGED, LOGGED_WITHIN_S)).take(time.monotonic()):
            say(what)

    async def _change_inspectors(self, request: protocol.ReplaceInspector | protocol.EndInspector) -> None:
        match request:
            case protocol.ReplaceInspector():
                await self._monitor.replace_inspector()
            case protocol.EndInspector(pid=pid):
                await self._monitor.end_inspector(pid)

    async def _update(self, request: protocol.UpdateRequest) -> Payload:
        monitor = self._monitor
        match request:
            case protocol.CheckUpdate(directory=directory):
                return await monitor.check_update(directory)
            case protocol.ApplyUpdate(directory=directory, tries=tries, within_s=within_s):
                return await monitor.apply_update(directory, tries, within_s)
            case protocol.RollBackUpdate(tries=tries, within_s=within_s):
                return await monitor.roll_back_update(tries, within_s)
            case protocol.CommitUpdate():
                return await monitor.commit_update()
            case protocol.UpdateStatus():
                return monitor.updates.status()
