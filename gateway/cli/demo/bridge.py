"""Keep what one port sends from the gateway, on the host's bridge: nobody inside a machine does it."""

from vmhost.commands import in_namespace, run
from vmhost.names import Lab

_TABLE = "quotegate_demo"


def mute_port(lab: Lab, port: str, control_port: int) -> None:
    """Drop what comes from a bridge port for the gateway's control port."""
    rule = f"""table bridge {_TABLE} {{
  chain mute {{
    type filter hook prerouting priority -200;
    iifname "{port}" ether type ip ip protocol tcp tcp dport {control_port} drop
  }}
}}
"""
    run(in_namespace(lab.host_namespace, ["nft", "-f", "-"]), text=rule)


def unmute_port(lab: Lab) -> None:
    """Drop nothing any more."""
    run(in_namespace(lab.host_namespace, ["nft", "delete", "table", "bridge", _TABLE]))
