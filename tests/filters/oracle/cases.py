"""Draw random policies, states of the world and flows: everything that decides a packet."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from random import Random

from filters.flow import FlowKey, Protocol, Service
from filters.policy.compiled import CompiledPolicy, compile_policy
from filters.policy.evaluator import AuthorityState, Decision, Facts, PeerFacts, Request, evaluate
from filters.policy.model import Policy
from filters.policy.parser import parse_policy

PEERS = ("a", "b", "c", "d")
GATEWAY = IPv4Address("10.79.0.1")
CONTROL_PORT = 7443
PORTS = (1, 2, 3, 7, 8, 9, 80, 65534, 65535)
STATES = (*["trusted"] * 8, "stale", "quarantined")
HEAD = 'schema = 1\n[profile.p]\npcrs = { sha256 = { 4 = "ref:x" } }\n'


def address(peer: str) -> IPv4Address:
    return IPv4Address("10.79.0.10") + PEERS.index(peer)


def mac(peer: str) -> str:
    return f"52:54:00:cc:00:{PEERS.index(peer):02x}"


@dataclass(frozen=True)
class Case:
    """One policy in one state of the world, and flows to try in it. `open_keys` have a live lease."""

    seed: int
    text: str
    policy: Policy
    compiled: CompiledPolicy
    authority: AuthorityState
    states: dict[str, str]
    open_keys: frozenset[FlowKey]
    requests: tuple[Request, ...]

    def decide(self, request: Request) -> Decision:
        facts = {name: PeerFacts(state) for name, state in self.states.items()}
        opened = key_of(request) in self.open_keys
        return evaluate(self.policy, request, Facts(self.authority, facts, session_open=opened))


def key_of(request: Request) -> FlowKey:
    return FlowKey(address(request.source), address(request.destination), request.service)


def draw_case(seed: int, flows: int) -> Case:
    """Draw a case; ports lie on and beside the edges of ranges, states are mostly good."""
    random = Random(seed)
    text = HEAD + "".join(_peer(random, name) for name in PEERS)
    text += "".join(_rule(random, at) for at in range(random.randrange(1, 9)))
    policy = parse_policy(text)
    compiled = compile_policy(policy, interface="eth0", gateway_ip=GATEWAY, control_port=CONTROL_PORT)
    authority = random.choice([AuthorityState.VALID] * 8 + [AuthorityState.EXPIRED, AuthorityState.ABSENT])
    states = {name: random.choice(STATES) for name in PEERS}
    requests = tuple(_request(random, policy) for _ in range(flows))
    # netd keeps no lease that the policy does not permit
    keys = {key for one in requests if compiled.permits(key := key_of(one)) and random.random() < 0.6}
    return Case(seed, text, policy, compiled, authority, states, frozenset(keys), requests)


def _peer(random: Random, name: str) -> str:
    tags = [tag for tag in ("x", "y") if random.random() < 0.5] + ["all"]
    place = f'port = "t-{name}", mac = "{mac(name)}", ip = "{address(name)}"'
    quoted = ", ".join(f'"{tag}"' for tag in tags)
    return f'[peer.{name}]\nmatch = {{ {place} }}\nprofile = "p"\ntags = [{quoted}]\n'


def _rule(random: Random, at: int) -> str:
    ends = [*(f'"{name}"' for name in PEERS), '"any"', '"tag:all"', '["a", "b"]', '["c", "tag:all"]']
    lines = [
        f'[[rule]]\nid = "r{at}"',
        f"from = {random.choice(ends)}",
        f"to = {random.choice(ends)}",
        f"service = {_services(random)}",
        f'action = "{random.choice(["allow", "allow", "allow", "deny"])}"',
    ]
    if random.random() < 0.3:
        lines.append(f'tier = "{random.choice(["mandatory", "site", "session"])}"')
    if random.random() < 0.2:
        lines.append('mode = "audit"')
    if random.random() < 0.3:
        lines.append('open = "on-demand"')
    return "\n".join(lines) + "\n"


def _services(random: Random) -> str:
    def one() -> str:
        kind = random.choice(["tcp", "tcp", "udp", "icmp", "any"])
        if kind == "any":
            return '"any"'
        if kind == "icmp":
            return '"icmp/echo"'
        first, last = sorted((random.choice(PORTS), random.choice(PORTS)))
        return f'"{kind}/{first}-{last}"' if random.random() < 0.7 else f'"{kind}/{first}"'

    return one() if random.random() < 0.7 else f"[{one()}, {one()}]"


def _request(random: Random, policy: Policy) -> Request:
    source, destination = random.sample(PEERS, 2)
    protocol = random.choice([Protocol.TCP, Protocol.TCP, Protocol.UDP, Protocol.ICMP])
    port = 0 if protocol is Protocol.ICMP else random.choice((*PORTS, 4, 6, 10, 81, 40000))
    return Request(source, destination, Service(protocol, port))
