"""Compute a flow's Community ID, version 1 (corelight community-id-spec), seed 0."""

import base64
import hashlib
import struct
from ipaddress import IPv4Address

ICMP = 1
_ICMP_PAIRS = {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 17: 18, 18: 17, 10: 9, 9: 10}


def community_id(
    protocol: int, source: IPv4Address, source_port: int, destination: IPv4Address, port: int
) -> str:
    """Return `1:` and the base64 SHA-1 over the ordered endpoints; ICMP ports are type and its answer."""
    one_way = False
    if protocol == ICMP:
        answer = _ICMP_PAIRS.get(source_port)
        one_way, port = answer is None, port if answer is None else answer
    left, right = (source.packed, source_port), (destination.packed, port)
    if not one_way and left > right:
        left, right = right, left
    data = struct.pack(">H", 0) + left[0] + right[0] + struct.pack(">BBHH", protocol, 0, left[1], right[1])
    return "1:" + base64.b64encode(hashlib.sha1(data).digest()).decode()  # noqa: S324 - the specification's hash
