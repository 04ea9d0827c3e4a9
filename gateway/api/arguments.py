"""Read what a request names; each reader refuses with what was expected."""

from typing import Any

from gateway.daemon.service import Service
from gateway.errors import GatewayError
from gateway.registry.registry import PeerRecord


def find_peer(service: Service, name: str) -> PeerRecord:
    """Find a peer by its name; raises GatewayError `unknown-peer`."""
    peer = service.registry.by_name(name)
    if peer is None:
        known = ", ".join(one.name for one in service.registry)
        raise GatewayError("unknown-peer", f"there is no peer {name!r}; known are {known}")
    return peer


def text_of(body: dict[str, Any], key: str) -> str:
    """Return a text field; raises GatewayError `malformed-request`."""
    value = body.get(key)
    if not isinstance(value, str):
        raise GatewayError("malformed-request", f"`{key}` must be a text")
    return value
