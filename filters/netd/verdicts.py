"""What netd and inspectors say to each other about packets.

To an inspector, one message a packet: its number and the packet. From it: any count of numbers, each with a byte:
0 lets the packet pass, N drops it for the N-th reason, 255 says that the server refuses the connection it would open.
The number RETIRE without a packet tells an inspector that a newer one is there: it takes no more, and ends with its last
connection.
"""

import struct
from typing import Final

from filters.reason import DropReason

PACKET: Final = struct.Struct("!I")
VERDICT: Final = struct.Struct("!IB")
REASONS: Final = tuple(DropReason)
PASS, REFUSED = 0, 255
RETIRE: Final = 0xFFFFFFFF
# What an inspector asks for two sockets (handover.py): take no new bytes; be one connection. And what netd answers: done, or
# no, with words, or that the connection is lost.
HUSH, JOIN = b"h", b"j"
HANDED, APART, LOST = b"+", b"-", b"!"
UNDER_WAY: Final = APART + b"bytes are under way"
