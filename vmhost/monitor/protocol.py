"""What may be asked of the monitor, by whom, and the bytes it travels in.

A message is a 4-byte big-endian length (at most MAX_MESSAGE) and one JSON object. A request is `{"op": NAME}`
with exactly the fields of its class below; an answer is `{"ok": true, …}` or `{"ok": false, "code": …,
"message": …}`. A connection carries any number of requests, answered in order. Callers are told apart by
SO_PEERCRED (unix(7)). Gateway and agent speak this without importing this package.
"""

import json
import struct
from dataclasses import dataclass, fields
from typing import Any, ClassVar, get_args

from vmhost.errors import HostError
from vmhost.names import AGENT_UID, GATEWAY_UID

MAX_MESSAGE = 64 << 10
MAX_TEXT = 1000
LENGTH = struct.Struct(">I")
ROOT = 0
Payload = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RestartPeer:
    """Restart a guest for real; answered once its agent runs. The log says why."""

    op: ClassVar[str] = "restart_peer"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT, GATEWAY_UID})
    peer: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class ReportGatewayRefused:
    """A guest's agent could not verify the gateway; within a budget the gateway is restarted."""

    op: ClassVar[str] = "report_gateway_refused"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT, AGENT_UID})
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class RestartGateway:
    """Restart the gateway's processes; with `reset_tpm` the machine itself."""

    op: ClassVar[str] = "restart_gateway"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT})
    reset_tpm: bool = False


@dataclass(frozen=True, slots=True)
class ReplaceInspector:
    """Start a fresh inspector; the former one ends with its last connection."""

    op: ClassVar[str] = "replace_inspector"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT})


@dataclass(frozen=True, slots=True)
class EndInspector:
    """Kill an inspector that gives no sign of life; the monitor starts another. Of a gateway in a VM its own systemd does so."""

    op: ClassVar[str] = "end_inspector"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT, GATEWAY_UID})
    pid: int


@dataclass(frozen=True, slots=True)
class CheckUpdate:
    """Check an update of the gateway's image; changes nothing."""

    op: ClassVar[str] = "check_update"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT})
    directory: str


@dataclass(frozen=True, slots=True)
class ApplyUpdate:
    """Try an update of the gateway's image; answered once it is blessed, or the former image runs again."""

    op: ClassVar[str] = "apply_update"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT})
    directory: str
    tries: int
    within_s: int


@dataclass(frozen=True, slots=True)
class RollBackUpdate:
    """Try the image that was in force before; answered as above."""

    op: ClassVar[str] = "roll_back_update"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT})
    tries: int
    within_s: int


@dataclass(frozen=True, slots=True)
class CommitUpdate:
    """Let the gateway's TPM open the state to nothing older than what is in force."""

    op: ClassVar[str] = "commit_update"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT})


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    """Describe the slots of the gateway's image; everybody may ask."""

    op: ClassVar[str] = "update_status"
    allowed: ClassVar[frozenset[int] | None] = None


@dataclass(frozen=True, slots=True)
class StartMachine:
    """Start a guest or the gateway at an operator's word, also one that an operator has switched off."""

    op: ClassVar[str] = "start_machine"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT})
    name: str


@dataclass(frozen=True, slots=True)
class StopMachine:
    """Switch a guest or the gateway off: it stays off until an operator starts it."""

    op: ClassVar[str] = "stop_machine"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT})
    name: str


@dataclass(frozen=True, slots=True)
class ListVms:
    """Describe the virtual machines; everybody may ask."""

    op: ClassVar[str] = "list_vms"
    allowed: ClassVar[frozenset[int] | None] = None


@dataclass(frozen=True, slots=True)
class VmEvidence:
    """Say what was measured before a virtual machine's last start."""

    op: ClassVar[str] = "vm_evidence"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT})
    name: str


@dataclass(frozen=True, slots=True)
class Pause:
    """Stop (`on`) or resume bringing the gateway back by itself."""

    op: ClassVar[str] = "pause"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT})
    on: bool


@dataclass(frozen=True, slots=True)
class Shutdown:
    """End every machine and the monitor."""

    op: ClassVar[str] = "shutdown"
    allowed: ClassVar[frozenset[int] | None] = frozenset({ROOT})


@dataclass(frozen=True, slots=True)
class Status:
    """Describe the machines; everybody may ask."""

    op: ClassVar[str] = "status"
    allowed: ClassVar[frozenset[int] | None] = None


UpdateRequest = CheckUpdate | ApplyUpdate | RollBackUpdate | CommitUpdate | UpdateStatus
Request = (
    RestartPeer
    | ReportGatewayRefused
    | RestartGateway
    | ReplaceInspector
    | EndInspector
    | UpdateRequest
    | StartMachine
    | StopMachine
    | ListVms
    | VmEvidence
    | Pause
    | Shutdown
    | Status
)
_REQUESTS: dict[str, type[Request]] = {one.op: one for one in get_args(Request)}


def parse(untrusted: bytes, uid: int) -> Request:
    """Read a request that this uid may make; raises HostError `malformed-request` or `not-permitted`."""
    try:
        values = json.loads(untrusted)
    except (ValueError, RecursionError) as error:
        raise HostError("malformed-request", f"a request is a JSON object: {error}") from error
    kind = _REQUESTS.get(str(values.pop("op", ""))) if isinstance(values, dict) else None
    if kind is None:
        raise HostError("malformed-request", f"a request has an op of {', '.join(_REQUESTS)}")
    if kind.allowed is not None and uid not in kind.allowed:
        raise HostError("not-permitted", f"uid {uid} may not ask for {kind.op}")
    wanted = {field.name: field.type for field in fields(kind)}
    for name, value in values.items():
        if wanted.get(name) is not type(value):
            raise HostError("malformed-request", f"{kind.op}: {name} is no field of it, or of the wrong type")
        if isinstance(value, str) and len(value) > MAX_TEXT:
            raise HostError("malformed-request", f"{kind.op}: {name} is longer than {MAX_TEXT} characters")
    try:
        return kind(**values)
    except TypeError as error:
        raise HostError("malformed-request", f"{kind.op} takes {', '.join(wanted) or 'nothing'}") from error


def encode(payload: Payload) -> bytes:
    """Frame one JSON object."""
    body = json.dumps(payload).encode()
    return LENGTH.pack(len(body)) + body
