"""Hold the policy in force and what it says of each peer."""

from collections.abc import Collection, Iterable, Sequence
from ipaddress import IPv4Address
from itertools import zip_longest

from authn.portmap import PortEntry
from authn.profile import IMA_PREFIX, Profile
from filters.errors import PolicyError
from filters.policy.check import check_policy
from filters.policy.compiled import CompiledPolicy, compile_policy
from filters.policy.model import OnFail, Policy
from filters.policy.parser import parse_policy
from filters.suggestion import suggestion

_HINTS = 8  # each takes long where there are many peers
EMPTY = parse_policy("schema = 1\n")


def check_text(text: str, file: str) -> tuple[Policy, list[str]]:
    """Parse and test a policy; return it with its warnings. Raises PolicyError."""
    policy = parse_policy(text, file)
    findings = check_policy(policy)
    errors = [one for one in findings if one.severity == "error"]
    if errors:
        message = f"{file}:{errors[0].line}:1: {errors[0].message}"
        raise PolicyError("test-failed", message, file=file, line=errors[0].line)
    return policy, [f"{file}:{one.line}:1: {one.message}" for one in findings]


def check_references(policy: Policy, sets: Sequence[Collection[str]]) -> None:
    """Refuse a profile that a peer has and nobody could prove: one set must have all its values. Raises PolicyError.

    sets: the names that each reference set here has.
    """
    known = tuple(sorted({name for one in sets for name in one}))
    for profile in sorted({peer.profile for peer in policy.peers.values()}):
        wanted = {name.removeprefix(IMA_PREFIX) for name in policy.profiles[profile].pcrs.values()}
        if any(wanted <= set(one) for one in sets):
            continue
        if missing := sorted(wanted - set(known)):
            lacks = f"no reference set here has {', '.join(map(repr, missing))}; expected some of {', '.join(known) or 'none'}"
            lacks += suggestion(missing[0], known)
        else:
            lacks = f"no reference set here has all of {', '.join(sorted(wanted))}: each is in one, and not in the same"
        raise PolicyError("unknown-reference", f"profile.{profile}: nobody could prove it: {lacks}")


def check_places(policy: Policy, places: Iterable[PortEntry]) -> list[str]:
    """Refuse a peer elsewhere than the signed port map has it; return a warning for each that stands nowhere. Raises PolicyError.

    The host lets nothing through from another place, and what comes from the right one would be dropped here.
    """
    by_name = {one.peer: one for one in places}
    for peer in policy.peers.values():
        place = by_name.get(peer.name)
        if place and (peer.port, peer.mac, peer.ip) != (place.port, place.mac, place.ip):
            raise PolicyError(
                "misplaced-peer",
                f"peer.{peer.name}: expected the place that the signed port map has (port {place.port}, {place.mac}, {place.ip}), "
                f"got port {peer.port}, {peer.mac}, {peer.ip}: mend the policy, or have the port map issued anew",
            )
    known, missing = sorted(by_name), sorted(policy.peers.keys() - by_name.keys())
    hints = [suggestion(name, known) for name in missing[:_HINTS]]
    return [
        f"peer.{name}: the signed port map has no such peer, so it can't connect{hint}"
        for name, hint in zip_longest(missing, hints, fillvalue="")
    ]


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
        references: Sequence[Collection[str]],
        places: Sequence[PortEntry],
    ) -> None:
        """references: the names that each reference set here has; places: the port map's."""
        self.policy: Policy = EMPTY
        self._interface, self._gateway_ip, self._control_port = interface, gateway_ip, control_port
        self._beacon_interval_ms, self._references, self._places = beacon_interval_ms, references, places

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

    def check_new(self, policy: Policy) -> list[str]:
        """Refuse a draft that nobody could keep; return warnings. What was in force once may come back all the same. Raises PolicyError."""
        check_references(policy, self._references)
        return check_places(policy, self._places)

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
        return self.policy.profiles[known.profile].on_fail if known else OnFail()
