"""Write a peer's setup file: the gateway that it trusts, and where in the machine everything is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any

from authn.profile import Profile
from authn.tpm import TpmIdentity

REFERENCES, CERTIFICATE, SETUP = "references.json", "ek_certificate.der", "setup.json"
# a virtual machine that starts by UEFI with a TPM has these
IN_MACHINE: Mapping[str, str] = MappingProxyType(
    {
        "tpm": "device:/dev/tpmrm0",
        "event_log": "/sys/kernel/security/tpm0/binary_bios_measurements",
        "ima_list": "/sys/kernel/security/ima/binary_runtime_measurements",
        "control_socket": "/run/quotegate-agent/agent.sock",
    }
)


@dataclass(frozen=True, slots=True)
class Gateway:
    """What a peer has to know of its gateway: no trust on first use."""

    gateway_id: str
    ip: str
    control_port: int
    keys: TpmIdentity
    profile: Profile
    reference_keys: Mapping[str, str]  # who may sign its reference values, hex by id


def peer_setup(peer_id: str, profile: Profile, gateway: Gateway, places: Mapping[str, Any]) -> dict[str, Any]:
    """Return a peer's setup; `places` are the fields that say where things are in its machine."""
    return {
        "peer_id": peer_id,
        "profile": profile.to_json(),
        "gateway_id": gateway.gateway_id,
        "gateway_ip": gateway.ip,
        "control_port": gateway.control_port,
        "gateway_ak_public": gateway.keys.ak_public.hex(),
        "gateway_ek_public": gateway.keys.ek_public.hex(),
        "gateway_profile": gateway.profile.to_json(),
        "reference_keys": dict(gateway.reference_keys),
        **places,
    }


def machine_places(
    settings: PurePosixPath, state: PurePosixPath, references: Sequence[str]
) -> dict[str, Any]:
    """Say where a virtual machine has what its setup names, with its settings in one directory."""
    return {
        **IN_MACHINE,
        "references": [str(settings / name) for name in references],
        "ek_certificate": str(settings / CERTIFICATE),
        "state_dir": str(state),
    }
