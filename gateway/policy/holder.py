"""Hold the policy in force and what it says of each peer."""

from collections.abc import Collection
from ipaddress import IPv4Address

from authn.profile import IMA_PREFIX, Profile
from filters.errors import PolicyError
from filters.policy.check import check_policy
from filters.policy.compiled import CompiledPolicy, compile_policy
from filters.policy.model import OnFail, Policy
from filters.policy.parser import parse_policy
from filters.policy.table import suggestion

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


def check_references(policy: Policy, known: Collection[str]) -> None:
    """Refuse a profile in use that names a reference value no set has: nobody could prove it. Raises PolicyError."""
    for name in sorted({peer.profile for peer in policy.peers.values()}):
        for pcr, wanted in policy.profiles[name].pcrs.items():
            value = wanted.removeprefix(IMA_PREFIX)
            if value not in known:
                listed = ", ".join(sorted(known)) or "none"
                raise PolicyError(
                    "unknown-reference",
                    f"profile.{name}: PCR {pcr} demands the reference value {value!r}, which no reference set here has; "
                    f"expected one of {listed}{suggestion(value, tuple(known))}",
                )


def check_quote_ages(policy: Policy, beacon_interval_ms: int) -> None:
    """Refuse an age of quotes that honest peers would exceed; raises PolicyError.

    The next quote may come an interval and a half after the beacon that asked for the former one, and later when the
    gateway has to prove itself first.
    """
    least = -(-beacon_interval_ms * 7 // 4)
    for profile in policy.profiles.values():
        if profile.max_quote_age_ms is not None and profile.max_quote_age_ms < least:
            raise PolicyError(
                "bad-value",
                f"profile.{profile.name}: `max_quote_age` is {profile.max_quote_age_ms} ms; this gateway asks every "
                f"{beacon_interval_ms} ms, so expected at least {least} ms: raise it, or lower the beacon interval",
            )


class PolicyHolder:
    """The policy in force; only `gateway.policy.changer` replaces it."""

    def __init__(
        self,
        interface: str,
        gateway_ip: IPv4Address,
        control_port: int,
        beacon_interval_ms: int,
        references: Collection[str],
    ) -> None:
        """references: the names that the reference sets here have."""
        self.policy: Policy = EMPTY
        self._interface, self._gateway_ip, self._control_port = interface, gateway_ip, control_port
        self._beacon_interval_ms, self._references = beacon_interval_ms, references

    def compile(self, policy: Policy) -> CompiledPolicy:
        """Compile for this gateway; raises PolicyError when it can't keep what a profile demands."""
        check_quote_ages(policy, self._beacon_interval_ms)
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

    def check_new(self, policy: Policy) -> None:
        """Refuse a draft that nobody could keep; what was in force once may come back all the same. Raises PolicyError."""
        check_references(policy, self._references)

    def quote_age(self, peer: str) -> float | None:
        """Return for how many seconds a peer's quote is worth trust at most; None: the profile does not say."""
        known = self.policy.peers.get(peer)
        age = self.policy.profiles[known.profile].max_quote_age_ms if known else None
        return None if age is None else age / 1000

    def ek(self, peer: str) -> str | None:
        """Return the fingerprint of the endorsement key that a peer must have; None: the enrolled one."""
        known = self.policy.peers.get(peer)
        return known.ek if known else None

    def on_fail(self, peer: str) -> OnFail:
        """Return what happens when a peer fails."""
        known = self.policy.peers.get(peer)
        return self.policy.profiles[known.profile].on_fail if known else DEFAULT_ON_FAIL
