"""Read what a request names; each reader refuses with what was expected."""

import math
import re
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import Any

from filters.suggestion import suggestion
from gateway.daemon.service import Service
from gateway.errors import GatewayError
from gateway.registry.registry import PeerRecord

MAX_SHOWN = 40
_SHA256 = re.compile("[0-9a-fA-F]{64}")
MAX_SEQUENCE = (1 << 63) - 1  # of audit records


def find_peer(service: Service, name: str) -> PeerRecord:
    """Find a peer by its name; raises GatewayError `unknown-peer`."""
    peer = service.registry.by_name(name)
    if peer is None:
        known = [one.name for one in service.registry]
        hint = suggestion(name, known)
        raise GatewayError("unknown-peer", f"there is no peer {name!r}; known are {', '.join(known)}{hint}")
    return peer


def text_of(body: dict[str, Any], key: str) -> str:
    """Return a text field; raises GatewayError `malformed-request`."""
    value = body.get(key)
    if not isinstance(value, str):
        raise GatewayError("malformed-request", f"`{key}` must be a text")
    return value


def sha256_of(body: Mapping[str, Any], key: str, prefix: str = "") -> str:
    """Return `prefix` and the digits of a SHA-256, in small letters; raises GatewayError `malformed-request`."""
    value = body.get(key)
    if (
        not isinstance(value, str)
        or not value.startswith(prefix)
        or not _SHA256.fullmatch(value.removeprefix(prefix))
    ):
        raise _out_of_bounds(key, f"{prefix}{' and ' if prefix else ''}64 hex digits", str(value))
    return value.lower()


def port_of(body: dict[str, Any], key: str) -> int:
    """Return a port; raises GatewayError `malformed-request`."""
    value = body.get(key)
    if type(value) is not int or not 1 <= value <= 65535:
        raise _out_of_bounds(key, "a port from 1 to 65535", str(value))
    return value


def address_of(body: dict[str, Any], key: str) -> IPv4Address:
    """Return an IPv4 address; raises GatewayError `malformed-request`."""
    text = text_of(body, key)
    try:
        return IPv4Address(text)
    except ValueError:
        raise _out_of_bounds(key, "an IPv4 address, such as 10.77.0.2", text) from None


def whole_number(params: Mapping[str, str], name: str, default: int, least: int, most: int) -> int:
    """Return a whole number within its bounds; raises GatewayError `malformed-request`."""
    text = params.get(name, str(default))
    try:
        value = int(text)
    except ValueError:
        value = least - 1
    if not least <= value <= most:
        raise _out_of_bounds(name, f"a whole number from {least} to {most}", text)
    return value


def seconds(params: Mapping[str, str], name: str, most: float) -> float:
    """Return a time from 0 (also when it is not named) to `most`; raises GatewayError `malformed-request`."""
    text = params.get(name, "0")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= most:
        raise _out_of_bounds(name, f"seconds from 0 to {most:g}", text)
    return value


def _out_of_bounds(name: str, expected: str, text: str) -> GatewayError:
    return GatewayError("malformed-request", f"`{name}`: expected {expected}, got {text[:MAX_SHOWN]!r}")
