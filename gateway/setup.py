"""Load what the monitor hands the gateway at start: names, places, keys and sockets.

The port map and the reference sets in it are signed documents; they are verified here, and a gateway
whose setup does not verify does not start.
"""

import json
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from authn.errors import AuthnError
from authn.profile import Profile
from gateway.errors import GatewayError


class SetupError(GatewayError):
    """A setup file can't be used; nothing was started."""


@dataclass(frozen=True, slots=True)
class Sockets:
    """Where the processes of the gateway meet."""

    netd: Path
    tpmd: Path
    api: Path
    monitor: Path
    inspectors: Path


@dataclass(frozen=True, slots=True)
class GatewaySetup:
    """The gateway's setup file, parsed. Paths are absolute; keys are raw public bytes."""

    gateway_id: str
    platform: str
    ip: IPv4Address
    mac: str
    interface: str
    control_port: int
    beacon_interval_ms: int
    return_within_s: float
    portmap: Path
    portmap_keys: dict[str, bytes]
    references: tuple[Path, ...]
    reference_keys: dict[str, bytes]
    administrator_keys: dict[str, bytes]
    ek_roots: tuple[Path, ...]
    preapproved_eks: frozenset[str]
    tpm: str
    event_log: Path
    policy: Path
    gateway_profile: Profile
    sockets: Sockets
    state_dir: Path
    allowed_uids: frozenset[int]
    inspector_uid: int
    approval: Path | None = None  # the authority's word for this image, where the machine is one
    own_references: Path | None = None  # the signed reference set of this image, where peers may not have it

    @classmethod
    def load(cls, path: Path) -> "GatewaySetup":
        """Read and check a setup file; raises SetupError naming the file and the field."""
        data = read_json(path)
        try:
            return cls._from_json(data)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError, AuthnError) as error:
            raise SetupError("bad-setup", f"{path}: field {error} is missing or malformed") from error

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> "GatewaySetup":
        return cls(
            gateway_id=str(data["gateway_id"]),
            platform=str(data["platform"]),
            ip=IPv4Address(data["ip"]),
            mac=str(data["mac"]),
            interface=str(data["interface"]),
            control_port=int(data["control_port"]),
            beacon_interval_ms=int(data["beacon_interval_ms"]),
            return_within_s=float(data["return_within_s"]),
            portmap=Path(data["portmap"]),
            portmap_keys=_keys(data["portmap_keys"]),
            references=tuple(Path(name) for name in data["references"]),
            reference_keys=_keys(data["reference_keys"]),
            administrator_keys=_keys(data["administrator_keys"]),
            ek_roots=tuple(Path(name) for name in data["ek_roots"]),
            preapproved_eks=frozenset(data["preapproved_eks"]),
            tpm=str(data["tpm"]),
            event_log=Path(data["event_log"]),
            policy=Path(data["policy"]),
            gateway_profile=Profile.from_json(data["gateway_profile"]),
            sockets=Sockets(**{name: Path(value) for name, value in data["sockets"].items()}),
            state_dir=Path(data["state_dir"]),
            allowed_uids=frozenset(data["allowed_uids"]),
            inspector_uid=int(data["inspector_uid"]),
            approval=_path(data.get("approval")),
            own_references=_path(data.get("own_references")),
        )


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object from a file; raises SetupError with what is wrong."""
    try:
        data = json.loads(path.read_text())
    except OSError as error:
        raise SetupError("unreadable-setup", f"{path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise SetupError("bad-setup", f"{path}: not JSON: {error}") from error
    if not isinstance(data, dict):
        raise SetupError("bad-setup", f"{path}: expected a JSON object")
    return data


def _path(name: str | None) -> Path | None:
    return None if name is None else Path(name)


def _keys(data: dict[str, str]) -> dict[str, bytes]:
    return {name: bytes.fromhex(value) for name, value in data.items()}
