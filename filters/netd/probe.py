"""Find out what the running kernel can do, by trying it in a table of our own that is removed again."""

from typing import Final

from filters.errors import NetdError
from filters.netd.nftables_adapter import Libnftables
from filters.ruleset.features import Features
from filters.ruleset.names import FAMILY, HOLD_QUEUE_NUMBER, TABLE

_PROBE: Final = f"{FAMILY} {TABLE}_probe"
_CHAIN: Final = f"add table {_PROBE}\nadd chain {_PROBE} c\n"
_QUEUE: Final = f"{_CHAIN}add rule {_PROBE} c queue num {HOLD_QUEUE_NUMBER}\n"
_HANDOVER: Final = (
    f"{_CHAIN}add rule {_PROBE} c reset tcp option timestamp\n"
    f"add chain {_PROBE} n {{ type nat hook postrouting priority 100; }}\n"
)
_SET: Final = f"{_CHAIN}add set {_PROBE} s {{ type ipv4_addr; flags timeout; }}\nflush set {_PROBE} s\n"
_ADD: Final = f"add element {_PROBE} s {{ 192.0.2.1 timeout %s expires %s }}"


def probe(nft: Libnftables) -> Features:
    """Try each feature; raises NetdError `kernel` when even the basics are refused."""
    nft.run(_SET)  # before the dry runs: a refusal there must mean the feature, not the frame around it
    return Features(
        native_queue=nft.accepts(_QUEUE),
        timeout_update=_updates_timeouts(nft),
        handover=nft.accepts(_HANDOVER),
    )


def _updates_timeouts(nft: Libnftables) -> bool:
    try:
        nft.run(_ADD % ("1h", "1h"))
        nft.run(_ADD % ("2h", "2h"))
        listed = nft.run(f"list set {_PROBE} s")
    except NetdError:
        return False  # an old kernel may refuse the second addition outright
    finally:
        nft.run(f"delete table {_PROBE}")
    return "timeout 2h" in listed
