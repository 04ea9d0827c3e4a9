"""Route packets that carry MARK_INSPECTED to this machine itself (linux/fib_rules.h, linux/rtnetlink.h)."""

import errno
import socket
import struct
from typing import Final

from filters.errors import NetdError
from filters.netd import netlink as nl
from filters.netd.netlink_socket import NETLINK_ROUTE, NetlinkSocket
from filters.ruleset.names import INSPECTION_TABLE, MARK_INSPECTED

_NEW_ROUTE, _NEW_RULE = 24, 32  # RTM_*
_RULE: Final = struct.Struct("=BBBBBBBBI")  # family, prefix lengths, tos, table, reserved, action, flags
_ROUTE: Final = struct.Struct(
    "=BBBBBBBBI"
)  # family, prefix lengths, tos, table, protocol, scope, type, flags
_PRIORITY, _MARK, _RULE_TABLE, _MASK = 6, 10, 15, 16  # FRA_*
_INTERFACE, _ROUTE_TABLE = 4, 15  # RTA_*
_TO_TABLE, _STATIC, _HOST, _LOCAL = 1, 4, 254, 2  # FR_ACT_TO_TBL, RTPROT_STATIC, RT_SCOPE_HOST, RTN_LOCAL
_FIRST: Final = 100


def divert_marked() -> None:
    """Put rule and route in place; raises NetdError `kernel`. Safe to do again."""
    loopback = socket.if_nametoindex("lo")
    with NetlinkSocket(NETLINK_ROUTE) as netlink:
        for kind, payload, extra in (
            (_NEW_ROUTE, route_payload(loopback), nl.NLM_F_REPLACE),
            (_NEW_RULE, rule_payload(), nl.NLM_F_EXCL),
        ):
            sequence = netlink.sequence()
            flags = nl.NLM_F_REQUEST | nl.NLM_F_ACK | nl.NLM_F_CREATE | extra
            try:
                netlink.execute(nl.message(kind, flags, sequence, payload), sequence, "divert to inspectors")
            except NetdError as error:
                if error.params.get("errno") != errno.EEXIST:
                    raise


def rule_payload() -> bytes:
    """Write `from all fwmark MARK_INSPECTED lookup INSPECTION_TABLE`."""
    payload = _RULE.pack(socket.AF_INET, 0, 0, 0, 0, 0, 0, _TO_TABLE, 0)
    numbers = (
        (_PRIORITY, _FIRST),
        (_MARK, MARK_INSPECTED),
        (_MASK, 0xFFFF_FFFF),
        (_RULE_TABLE, INSPECTION_TABLE),
    )
    return payload + b"".join(nl.attribute(kind, struct.pack("=I", value)) for kind, value in numbers)


def route_payload(loopback: int) -> bytes:
    """Write `local default dev lo table INSPECTION_TABLE`."""
    payload = _ROUTE.pack(socket.AF_INET, 0, 0, 0, 0, _STATIC, _HOST, _LOCAL, 0)
    numbers = ((_ROUTE_TABLE, INSPECTION_TABLE), (_INTERFACE, loopback))
    return payload + b"".join(nl.attribute(kind, struct.pack("=I", value)) for kind, value in numbers)
