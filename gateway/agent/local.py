"""The agent's local socket: programs on this machine ask it for sessions."""

from gateway import rpc
from gateway.agent.agent import Agent
from gateway.errors import GatewayError
from gateway.rpc import Payload


class LocalService:
    """The verbs `open`, `delivery` and `status`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def handle(self, request: Payload, _uid: int) -> Payload:
        """Answer one request; every local program may ask, the policy decides."""
        match request:
            case {"op": "open", "peer": str(peer), "service": str(service)}:
                result = await self._agent.open_session(peer, service)
                return {
                    "granted": result.granted,
                    "session_id": result.session_id,
                    "reason": result.reason,
                    "detail": result.detail,
                    "lease_ms": result.lease_ms,
                    "ip": result.destination_ip,
                }
            case {"op": "delivery", "session_id": str(session), "port": int(port), "sent": int(sent)}:
                report = await self._agent.ask_delivery(session, port, sent)
                return {"received": report.bytes_received, "state": report.state, "complete": report.complete}
            case {"op": "status"}:
                agent = self._agent
                return {
                    "peer": agent.setup.peer_id,
                    "state": agent.state,
                    "detail": agent.detail,
                    "audit_sequence": agent.audit_head[0],
                }
        raise GatewayError("unknown-verb", f"the agent has no verb {request.get('op')!r} with these fields")


async def serve_local(agent: Agent) -> None:
    """Serve until cancelled."""
    server = await rpc.serve(agent.setup.control_socket, LocalService(agent).handle)
    async with server:
        await server.serve_forever()
