"""Build a lab's network: a bridge of isolated ports, the gateway behind the only port that is not.

Guests can't reach each other at layer 2. The bridge learns nothing, floods nothing to guests and has no
address; its host does not take part.
"""

from contextlib import ExitStack

from authn.portmap import PortEntry
from vmhost.antispoof_rules import compile_antispoof
from vmhost.commands import in_namespace, run
from vmhost.names import BRIDGE, QEMU_UID, Lab
from vmhost.spec import LabSpec

INTERFACE = "eth0"
_BRIDGE_OPTIONS = "stp_state 0 mcast_snooping 0 group_fwd_mask 0"
_GUEST_PORT = "isolated on flood off mcast_flood off bcast_flood off learning off locked on"
_GATEWAY_PORT = "isolated off flood off mcast_flood off bcast_flood on learning off"
_NO_IPV6 = ("net.ipv6.conf.all.disable_ipv6=1",)
# Linux's default, as in machines with a kernel of their own, not the host's choice: BBR falls to 2 KB/s, and
# stays there for minutes, when a receiver with a closed window has dropped some of what it was sent
_CONGESTION = tuple(
    f"net.ipv4.tcp_congestion_control={one}" for one in ("reno", "cubic")
)  # a host may not allow the latter
# the host's own firewall has no say on what crosses the bridge, and would look at all of it (absent where br_netfilter is)
_BRIDGE_SYSCTLS = tuple(
    f"net.bridge.bridge-nf-call-{kind}=0" for kind in ("arptables", "iptables", "ip6tables")
)


def build_topology(spec: LabSpec) -> None:
    """Create namespaces, bridge, ports and the anti-spoof table; takes everything down again on failure."""
    with ExitStack() as undo:
        undo.callback(destroy_topology, spec.lab)
        machines = {} if spec.gateway_vm else {spec.lab.gateway_namespace: spec.gateway}
        if spec.images is None:
            machines |= {spec.lab.peer_namespace(peer.peer): peer for peer in spec.peers}
        run(
            ["ip", "-batch", "-"],
            text="".join(f"netns add {name}\n" for name in (spec.lab.host_namespace, *machines)),
        )
        host = spec.lab.host_namespace
        for name in (host, *machines):
            # the gateway must see IPv6 to drop and count it
            settings = _CONGESTION if name == spec.lab.gateway_namespace else (*_CONGESTION, *_NO_IPV6)
            settings = (*settings, *_BRIDGE_SYSCTLS) if name == host else settings
            run(in_namespace(name, ["sysctl", "-qw", *settings]), check=False)
        run(["ip", "-n", host, "-batch", "-"], text=f"link add {BRIDGE} type bridge {_BRIDGE_OPTIONS}\n")
        # the rules stand before the first port is up
        run(in_namespace(host, ["nft", "-f", "-"]), text=compile_antispoof(spec.gateway, spec.peers))
        for namespace, machine in machines.items():
            _connect(spec, namespace, machine)
        if spec.gateway_vm:
            _connect_vm(spec, spec.gateway, QEMU_UID)
        for number, peer in enumerate(spec.peers if spec.images else (), 1):
            _connect_vm(spec, peer, QEMU_UID + number)
        run(["ip", "-n", host, "link", "set", BRIDGE, "up"])
        undo.pop_all()


def _connect(spec: LabSpec, namespace: str, machine: PortEntry) -> None:
    host, is_gateway = spec.lab.host_namespace, machine is spec.gateway
    options = _GATEWAY_PORT if is_gateway else _GUEST_PORT
    made = f"link add name {machine.port} type veth peer name {INTERFACE} address {machine.mac} netns {namespace}\n"
    _add_port(host, machine, made, options)
    default = "" if is_gateway else f"route add default via {spec.gateway.ip}\n"
    run(
        ["ip", "-n", namespace, "-batch", "-"],
        text=f"link set lo up\naddr add {machine.ip}/{spec.network.prefixlen} dev {INTERFACE}\n"
        f"link set {INTERFACE} up\n{default}",
    )


def _connect_vm(spec: LabSpec, machine: PortEntry, uid: int) -> None:
    """Give a VM its port: a tap that only its QEMU's uid may open."""
    made = f"tuntap add dev {machine.port} mode tap user {uid}\n"
    options = _GATEWAY_PORT if machine is spec.gateway else _GUEST_PORT
    _add_port(spec.lab.host_namespace, machine, made, options)


def _add_port(host: str, machine: PortEntry, made: str, options: str) -> None:
    run(["ip", "-n", host, "-batch", "-"], text=made + "".join(_joined(BRIDGE, machine, options)))
    run(["bridge", "-n", host, *_known_at(machine)])


def _joined(bridge: str, machine: PortEntry, options: str) -> tuple[str, ...]:
    return (
        f"link set dev {machine.port} master {bridge}\n",
        f"link set dev {machine.port} type bridge_slave {options}\n",
        f"link set dev {machine.port} up\n",
    )


def _known_at(machine: PortEntry) -> list[str]:
    return ["fdb", "replace", machine.mac, "dev", machine.port, "master", "static"]


def guest_port_text(bridge: str, guest: PortEntry) -> str:
    """Write the commands that make an interface of somebody else's a guest's port, as a lab has them."""
    joined = "".join(f"ip {line}" for line in _joined(bridge, guest, _GUEST_PORT))
    return f"{joined}bridge {' '.join(_known_at(guest))}\n"


def namespaces_of(lab: Lab) -> list[str]:
    """List the lab's namespaces that exist."""
    lines = run(["ip", "netns", "list"]).splitlines()
    return [line.split()[0] for line in lines if line.startswith(lab.prefix)]


def destroy_topology(lab: Lab) -> None:
    """Delete the lab's namespaces, and with them links, rules and sysctls; safe from any state."""
    for name in namespaces_of(lab):
        run(["ip", "netns", "delete", name], check=False)
