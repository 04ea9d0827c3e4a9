"""Name everything that belongs to one lab, so that teardown can find it and two labs never meet."""

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from vmhost.errors import HostError

RUN_ROOT, STATE_ROOT = Path("/run/quotegate"), Path("/var/lib/quotegate")
GATEWAY, BRIDGE = "gateway", "br0"
# no "--" and none at the end: the names of one lab's namespaces never begin with another lab's prefix
_NAME, _LONGEST = re.compile(r"[a-z](?:-?[a-z0-9])*"), 16

NETD_UID, TPMD_UID, GATEWAY_UID, INSPECTOR_UID, AGENT_UID = 64101, 64102, 64103, 64104, 64200
# a guest's root drives its own TPM: each TPM has a uid of its own, from this one (the gateway's) upwards
TPM_UID = 64300
# a VM that was taken over by its guest must not reach another: each QEMU has a uid of its own
QEMU_UID = 64400


@dataclass(frozen=True, slots=True)
class Lab:
    """One lab by its name: a-z, 0-9 and single '-' between them, at most 16."""

    name: str

    def __post_init__(self) -> None:
        if len(self.name) > _LONGEST or not _NAME.fullmatch(self.name):
            raise HostError(
                "bad-name",
                f"lab name {self.name!r}: expected a-z, 0-9 and single '-' between them, at most {_LONGEST}, a letter first",
            )

    @property
    def prefix(self) -> str:
        """What all its namespaces begin with."""
        return f"qg-{self.name}--"

    @property
    def host_namespace(self) -> str:
        """The namespace that plays the host: bridge, anti-spoofing, monitor."""
        return f"{self.prefix}host"

    @property
    def gateway_namespace(self) -> str:
        """The namespace that plays the gateway VM."""
        return f"{self.prefix}gw"

    def peer_namespace(self, peer: str) -> str:
        """The namespace that plays a guest."""
        return f"{self.prefix}p-{peer}"

    def port(self, machine: str) -> str:
        """The bridge port of a machine: at most 15 characters, unique in the lab."""
        return "p" + hashlib.sha256(machine.encode()).hexdigest()[:10]

    @property
    def run_dir(self) -> Path:
        """Sockets, logs, setup files; gone after `lab down`, and after the host's restart."""
        return RUN_ROOT / self.name

    @property
    def state_dir(self) -> Path:
        """Databases, TPM states, keys, virtual machines' disks; gone after `lab down`, but for one with `--keep`."""
        return STATE_ROOT / self.name

    @property
    def monitor_socket(self) -> Path:
        """Where the monitor listens."""
        return self.run_dir / "monitor.sock"

    @property
    def monitor_log(self) -> Path:
        """What the monitor writes; it keeps it small."""
        return self.run_dir / "log" / "monitor.log"

    @property
    def api_socket(self) -> Path:
        """Where the gateway's control API listens."""
        return self.run_dir / "gateway" / "quotegated" / "api.sock"

    @property
    def kept_dir(self) -> Path:
        """What virtual machines are started with again (`vmhost.lab.kept`)."""
        return self.state_dir / "kept"

    @property
    def material(self) -> Path:
        """The operator's patterns and rules for inspectors."""
        return self.state_dir / "inspection"

    @property
    def administrator_key(self) -> Path:
        """The administrator's signing key of this lab, readable by root alone."""
        return self.state_dir / "administrator.key"

    @property
    def authority_key(self) -> Path:
        """The key that approves images of this lab's gateway to its TPM, readable by root alone."""
        return self.state_dir / "authority.key"

    def tpm_socket(self, machine: str) -> Path:
        """Where a machine's TPM listens for its owner (and for root)."""
        return self.run_dir / "tpm" / machine / "tpm.sock"

    def agent_socket(self, peer: str) -> Path:
        """Where a peer's agent listens for local programs."""
        return self.run_dir / "peers" / peer / "agent" / "agent.sock"
