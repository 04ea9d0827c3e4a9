"""Load what provisioning gave the peer: its name, the gateway it trusts, its TPM. No trust on first use."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authn.errors import AuthnError
from authn.profile import Profile
from authn.public_area import AttestationKey
from authn.reference import KIND, ReferenceSet
from authn.reference_shelf import ReferenceShelf
from authn.signing import DocumentError, verify_document
from gateway.setup import SetupError, read_json


@dataclass(frozen=True, slots=True)
class AgentSetup:
    """The agent's setup file, parsed and its signed parts verified."""

    peer_id: str
    profile: Profile
    gateway_id: str
    gateway_ip: str
    control_port: int
    gateway_key: AttestationKey
    gateway_profile: Profile
    references: ReferenceShelf
    tpm: str
    event_log: Path
    ima_list: Path | None
    ek_certificate: Path
    state_dir: Path
    control_socket: Path
    monitor_socket: Path | None
    host_line: Path | None  # a serial port to the host, in a virtual machine

    @classmethod
    def load(cls, path: Path) -> "AgentSetup":
        """Read and check a setup file; raises SetupError naming the file and the field."""
        data = read_json(path)
        try:
            return cls._from_json(data)
        except OSError as error:
            raise SetupError(
                "bad-setup",
                f"{path}: reading {error.filename}, which it names: expected a file that the agent's user may read, got: "
                f"{error.strerror}; put there what was issued for this machine",
            ) from error
        except (KeyError, TypeError, ValueError, AttributeError, AuthnError) as error:
            raise SetupError("bad-setup", f"{path}: {error} is missing or malformed") from error

    @classmethod
    def _from_json(cls, data: dict[str, Any]) -> "AgentSetup":
        keys = {name: bytes.fromhex(value) for name, value in data["reference_keys"].items()}
        documents = [_verified(Path(name), keys) for name in data["references"]]
        ak, ek = bytes.fromhex(data["gateway_ak_public"]), bytes.fromhex(data["gateway_ek_public"])
        monitor, line = data.get("monitor_socket"), data.get("host_line")
        return cls(
            peer_id=str(data["peer_id"]),
            profile=Profile.from_json(data["profile"]),
            gateway_id=str(data["gateway_id"]),
            gateway_ip=str(data["gateway_ip"]),
            control_port=int(data["control_port"]),
            gateway_key=AttestationKey.from_public(ak, ek),
            gateway_profile=Profile.from_json(data["gateway_profile"]),
            references=ReferenceShelf(documents, keys),
            tpm=str(data["tpm"]),
            event_log=Path(data["event_log"]),
            ima_list=Path(data["ima_list"]) if data.get("ima_list") else None,
            ek_certificate=Path(data["ek_certificate"]),
            state_dir=Path(data["state_dir"]),
            control_socket=Path(data["control_socket"]),
            monitor_socket=Path(monitor) if monitor else None,
            host_line=Path(line) if line else None,
        )


def _verified(path: Path, keys: dict[str, bytes]) -> ReferenceSet:
    try:
        return ReferenceSet.from_document(verify_document(path.read_bytes(), KIND, keys, time.time()))
    except DocumentError as error:
        raise SetupError(
            "bad-setup",
            f"{path}: checked the gateway's reference values: expected a set in force that a key of the setup signed, got: "
            f"{error.message}; put the newest set there: whoever issued this machine has it",
        ) from error
