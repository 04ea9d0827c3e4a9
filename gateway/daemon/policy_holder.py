"""Hold the policy in force; put another one in its place in one step."""

import asyncio
from collections.abc import Awaitable, Callable
from ipaddress import IPv4Address

from authn.profile import Profile
from filters.errors import PolicyError
from filters.policy.check import check_policy
from filters.policy.compiled import CompiledPolicy, compile_policy
from filters.policy.model import OnFail, Policy
from filters.policy.parser import parse_policy
from gateway.audit.recorder import Recorder
from gateway.clock import Clock
from gateway.events.model import PolicyApplied
from gateway.kernel import Kernel
from gateway.store.store import Store

Revoked = Callable[[tuple[int, ...]], Awaitable[int]]
EMPTY = parse_policy("schema = 1\n")
DEFAULT_ON_FAIL = OnFail("restart", 3, 900.0, "quarantine")


class PolicyHolder:
    """The policy, its compiled form, and how both change. A broken text never disturbs what runs."""

    def __init__(self, interface: str, gateway_ip: IPv4Address, control_port: int) -> None:
        self.policy: Policy = EMPTY
        self._interface, self._gateway_ip, self._control_port = interface, gateway_ip, control_port

    def compile(self, policy: Policy) -> CompiledPolicy:
        """Compile for this gateway."""
        return compile_policy(
            policy, interface=self._interface, gateway_ip=self._gateway_ip, control_port=self._control_port
        )

    @staticmethod
    def check(text: str, file: str) -> tuple[Policy, list[str]]:
        """Parse and test a policy; return it with its warnings. Raises PolicyError."""
        policy = parse_policy(text, file)
        findings = check_policy(policy)
        errors = [one for one in findings if one.severity == "error"]
        if errors:
            raise PolicyError(
                "test-failed",
                f"{file}:{errors[0].line}:1: {errors[0].message}",
                file=file,
                line=errors[0].line,
            )
        return policy, [f"{file}:{one.line}:1: {one.message}" for one in findings]

    async def start(self, text: str, file: str, kernel: Kernel) -> None:
        """Put the policy in force that was in force before, or the first one."""
        self.policy, _ = self.check(text, file)
        await kernel.load_policy(self.compile(self.policy))

    async def apply(
        self,
        text: str,
        file: str,
        actor: str,
        kernel: Kernel,
        store: Store,
        recorder: Recorder,
        clock: Clock,
        revoked: Revoked,
    ) -> tuple[int, list[str]]:
        """Put another policy in force; return how many sessions it cut, and its warnings."""
        # in a thread: a large policy takes longer than a beacon may wait
        policy, warnings = await asyncio.to_thread(self.check, text, file)
        compiled = await asyncio.to_thread(self.compile, policy)
        before = self.policy
        await recorder.record(PolicyApplied(policy.revision, before.revision, actor, 0))
        gone = await kernel.load_policy(compiled)
        self.policy = policy
        store.save_policy(policy.revision, text, clock.wall())
        return await revoked(gone), warnings

    def profile(self, peer: str) -> Profile:
        """Return what a peer's quote must prove; a peer the policy does not know proves nothing useful."""
        known = self.policy.peers.get(peer)
        if known is None:
            raise PolicyError("unknown-peer", f"the policy has no peer {peer}")
        spec = self.policy.profiles[known.profile]
        return Profile.of(spec.name, spec.pcrs, layers=spec.layers)

    def on_fail(self, peer: str) -> OnFail:
        """Return what happens when a peer fails."""
        known = self.policy.peers.get(peer)
        return self.policy.profiles[known.profile].on_fail if known else DEFAULT_ON_FAIL
