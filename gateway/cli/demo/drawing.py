"""Draw a run from its seed: names, addresses, ports and contents."""

import os
import random
from dataclasses import dataclass
from ipaddress import IPv4Network

from gateway.cli.demo.pieces import Drawn
from vmhost.lab.defaults import PROFILE_TEXT, make_spec, peer_text, place
from vmhost.names import Lab
from vmhost.spec import LabSpec

NAMES = ("amber", "birch", "cedar", "delta", "ember", "flint", "grove", "heron", "iris", "juniper")
SIZES, SMALL_SIZES = range(1 << 20, 4 << 20), range(1 << 19, 1 << 20)


@dataclass(frozen=True, slots=True)
class Cast:
    """A requests services of B; C looks on, if there is one.

    `request_port` needs a request, `demand_port` opens by its first packet.
    """

    a: str
    b: str
    c: str
    request_port: int
    demand_port: int
    forbidden_port: int
    inspected_port: int
    content: Drawn


def draw(lab: Lab, seed: int, *, bystander: bool = True, sizes: range = SIZES) -> tuple[LabSpec, Cast]:
    """Draw a run: a lab with namespaces, and who does what in it; `sizes` are those of A's content."""
    rng = random.Random(seed)  # noqa: S311 - variety, not secrecy
    a, b, c = rng.sample(NAMES, 3)
    ports = rng.sample(range(1024, 60000), 4)
    network = IPv4Network(f"10.{rng.randrange(64, 200)}.{rng.randrange(256)}.0/24")
    hosts = rng.sample(list(network.hosts())[1:], 3)
    names = (a, b, c) if bystander else (a, b)
    peers = [place(name, ip, f"port-{name}") for name, ip in zip(names, hosts, strict=False)]
    rules = f"""
[[rule]]
id = "asked-for"
from = "{a}"
to = "{b}"
service = "tcp/{ports[0]}"
action = "allow"

[[rule]]
id = "first-packet"
from = "{a}"
to = "{b}"
service = "tcp/{ports[1]}"
action = "allow"
open = "on-demand"

[[rule]]
id = "inspected"
from = "{a}"
to = "{b}"
service = "tcp/{ports[3]}"
action = "allow"
open = "on-demand"
inspect = {{ protocol = "http", detectors = ["secrets", "malware"] }}
"""
    spec = make_spec(lab, peers, PROFILE_TEXT + "".join(map(peer_text, peers)) + rules, network)
    content = Drawn(rng.getrandbits(32), rng.choice(sizes))
    request, demand, forbidden, inspected = ports
    return spec, Cast(a, b, c if bystander else "", request, demand, forbidden, inspected, content)


def pick_seed(given: int | None) -> int:
    """Return the given seed or a fresh one."""
    return given if given is not None else int.from_bytes(os.urandom(4), "big")
