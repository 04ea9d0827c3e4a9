"""Tell when a set of the gateway's table lost an element: `python -m tests.lab.kernel_clock SET` in its namespace.

Prints the time of each removal as the kernel announces it (NFNLGRP_NFTABLES), independently of netd.
"""

import socket
import sys
import time

from filters.netd import netlink as nl
from filters.netd.nf_tables import Nft

SOL_NETLINK, ADD_MEMBERSHIP, GROUP = 270, 1, 7
LIST_SET = 2  # NFTA_SET_ELEM_LIST_SET


def main() -> None:
    """Print until killed."""
    listener = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 12)
    listener.bind((0, 0))
    listener.setsockopt(SOL_NETLINK, ADD_MEMBERSHIP, GROUP)
    print("listening", flush=True)
    while True:
        data, now = listener.recv(1 << 18), time.time()
        for message in nl.messages(data):
            if message.type == nl.Subsystem.NFTABLES << 8 | Nft.DELSETELEM:
                name = nl.attribute_map(message.payload, nl.NFGEN_LENGTH)[LIST_SET]
                if name.rstrip(b"\0").decode() == sys.argv[1]:
                    print(now, flush=True)


if __name__ == "__main__":
    main()
