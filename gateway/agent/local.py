"""The agent's local socket: programs on this machine ask it for sessions."""

from ipaddress import IPv4Address

from gateway import rpc
from gateway.agent.agent import Agent
from gateway.agent.words import shown
from gateway.errors import GatewayError
from gateway.rpc import Payload

MAX_WORD = 128  # characters: at most half of what a gateway takes
MAX_PORT, MAX_SENT = 65535, (1 << 63) - 1


class LocalService:
    """The verbs `open`, `delivery` and `status`."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent

    async def handle(self, request: Payload, _uid: int) -> Payload:
        """Answer one request; every local program may ask, the policy decides."""
        match request:
            case {"op": "open", "peer": str(peer), "service": str(service)}:
                result = await self._agent.open_session(_word("peer", peer), _word("service", service))
                return {
                    "granted": result.granted,
                    "session_id": result.session_id,
                    "reason": shown(result.reason),
                    "detail": shown(result.detail),
                    "lease_ms": result.lease_ms,
                    "ip": _address(result.destination_ip) if result.granted else "",
                }
            case {"op": "delivery", "session_id": str(session), "port": int(port), "sent": int(sent)}:
                report = await self._agent.ask_delivery(
                    _word("session_id", session),
                    _number("port", port, MAX_PORT),
                    _number("sent", sent, MAX_SENT),
                )
                state = shown(report.state)
                return {"received": report.bytes_received, "state": state, "complete": report.complete}
            case {"op": "status"}:
                agent = self._agent
                return {
                    "peer": agent.setup.peer_id,
                    "state": agent.state,
                    "detail": agent.detail,
                    "audit_sequence": agent.audit_head[0],
                }
        raise GatewayError(
            "unknown-verb", f"the agent has no verb {shown(str(request.get('op')))} with these fields"
        )


def _word(field: str, text: str) -> str:
    """Check text for the gateway: what it can't read would cost this machine its session. Raises GatewayError."""
    if not 0 < len(text) <= MAX_WORD or not text.isprintable():
        raise GatewayError(
            "bad-request",
            f"{field}: expected 1 to {MAX_WORD} printable characters, got {len(text)}: {shown(text[:40])}",
        )
    return text


def _number(field: str, number: int, most: int) -> int:
    if not 0 <= number <= most:
        raise GatewayError("bad-request", f"{field}: expected a number from 0 to {most}, got another one")
    return number


def _address(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except ValueError:
        raise GatewayError(
            "bad-answer", f"expected the other machine's IPv4 address of the gateway, got {shown(text)}"
        ) from None


async def serve_local(agent: Agent) -> None:
    """Serve until cancelled."""
    server = await rpc.serve(agent.setup.control_socket, LocalService(agent).handle)
    async with server:
        await server.serve_forever()
