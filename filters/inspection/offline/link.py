"""Find the IP packet in a captured frame."""

from filters.inspection.packet import Unreadable

_ETHERNET, _RAW, _RAW_OLD, _COOKED, _COOKED2, _NULL = 1, 101, 12, 113, 276, 0
_VLANS = (0x8100, 0x88A8, 0x9100)


def strip_link(link: int, data: bytes) -> bytes:
    """Return the IP packet in a frame; raises Unreadable."""
    if link == _ETHERNET:
        at, kind = 12, int.from_bytes(data[12:14], "big")
        while kind in _VLANS:
            at += 4
            kind = int.from_bytes(data[at : at + 2], "big")
        if kind not in {0x0800, 0x86DD}:
            raise Unreadable("not IP")
        return data[at + 2 :]
    offsets = {_RAW: 0, _RAW_OLD: 0, 228: 0, 229: 0, _COOKED: 16, _COOKED2: 20, _NULL: 4, 108: 4}
    if link not in offsets:
        raise Unreadable(f"link type {link}")
    return data[offsets[link] :]
