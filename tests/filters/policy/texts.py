"""Policies as text, for the tests of this package."""

from ipaddress import IPv4Address
from pathlib import Path

from filters.flow import Protocol, Service
from filters.policy.compiled import CompiledPolicy, compile_policy
from filters.policy.evaluator import PeerFacts
from filters.policy.model import Policy

EXAMPLE = Path("examples/policy.toml").read_text()
HEAD = EXAMPLE[: EXAMPLE.index("[[rule]]")]
PEERS = ("web", "db", "ops")
TRUSTED = {name: PeerFacts("trusted") for name in PEERS}
SQL = Service(Protocol.TCP, 5432)


def rule(name: str, source: str, to: str, service: str, action: str, more: str = "") -> str:
    return (
        f'\n[[rule]]\nid = "{name}"\nfrom = "{source}"\nto = "{to}"\nservice = "{service}"\n'
        f'action = "{action}"\n{more}'
    )


def compiled(policy: Policy) -> CompiledPolicy:
    return compile_policy(policy, interface="eth0", gateway_ip=IPv4Address("10.77.0.1"), control_port=7443)


def many_rules(peers: int, rules: int, *, one_pair: bool) -> str:
    """Write a large policy; ports are spread by a fixed step, so that ranges overlap in many ways."""
    parts = ['schema = 1\n[profile.p]\npcrs = { sha256 = { 4 = "ref:code" } }\n']
    for at in range(peers):
        high, low = divmod(at, 250)
        place = f'port = "t{at}", mac = "52:54:00:00:{high:02x}:{low:02x}", ip = "10.1.{high}.{low + 1}"'
        parts.append(f'[peer.p{at}]\nmatch = {{ {place} }}\nprofile = "p"\n')
    for at in range(rules):
        ends = ("p0", "p1") if one_pair else (f"p{at % peers}", f"p{(at * 7 + 1) % peers}")
        first = 1 + at * 37 % 60000
        parts.append(rule(f"r{at}", *ends, f"tcp/{first}-{first + at % 100}", ("allow", "deny")[at % 3 == 0]))
    return "".join(parts)
