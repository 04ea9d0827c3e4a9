"""Hold the policy in force and what it says of each peer."""

from ipaddress import IPv4Address

from authn.profile import Profile
from filters.errors import PolicyError
from filters.policy.check import check_policy
from filters.policy.compiled import CompiledPolicy, compile_policy
from filters.policy.model import OnFail, Policy
from filters.policy.parser import parse_policy

EMPTY = parse_policy("schema = 1\n")
DEFAULT_ON_FAIL = OnFail("restart", 3, 900.0, "quarantine")


def check_text(text: str, file: str) -> tuple[Policy, list[str]]:
    """Parse and test a policy; return it with its warnings. Raises PolicyError."""
    policy = parse_policy(text, file)
    findings = check_policy(policy)
    errors = [one for one in findings if one.severity == "error"]
    if errors:
        message = f"{file}:{errors[0].line}:1: {errors[0].message}"
        raise PolicyError("test-failed", message, file=file, line=errors[0].line)
    return policy, [f"{file}:{one.line}:1: {one.message}" for one in findings]


class PolicyHolder:
    """The policy in force; only `gateway.policy.changer` replaces it."""

    def __init__(self, interface: str, gateway_ip: IPv4Address, control_port: int) -> None:
        self.policy: Policy = EMPTY
        self._interface, self._gateway_ip, self._control_port = interface, gateway_ip, control_port

    def compile(self, policy: Policy) -> CompiledPolicy:
        """Compile for this gateway."""
        return compile_policy(
            policy, interface=self._interface, gateway_ip=self._gateway_ip, control_port=self._control_port
        )

    def profile(self, peer: str) -> Profile:
        """Return what a peer's quote must prove; a peer the policy does not know proves nothing useful."""
        known = self.policy.peers.get(peer)
        if known is None:
            raise PolicyError("unknown-peer", f"the policy has no peer {peer}")
        spec = self.policy.profiles[known.profile]
        return Profile.of(spec.name, spec.pcrs, layers=spec.layers)

    def ek(self, peer: str) -> str | None:
        """Return the fingerprint of the endorsement key that a peer must have; None: the enrolled one."""
        known = self.policy.peers.get(peer)
        return known.ek if known else None

    def on_fail(self, peer: str) -> OnFail:
        """Return what happens when a peer fails."""
        known = self.policy.peers.get(peer)
        return self.policy.profiles[known.profile].on_fail if known else DEFAULT_ON_FAIL
