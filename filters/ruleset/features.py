"""Say what the running kernel can do, as far as the ruleset depends on it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Features:
    """What a probe found. `filters.netd` fills it in at start; the compiler only reads it.

    native_queue: the `nft queue` statement exists. Where it does not, the hold queue's chain drops and
        netd inserts an xt NFQUEUE target before that drop.
    timeout_update: adding an existing element again renews its timeout in place;
        where it does not, an element is deleted and added in one batch. No rule text depends on it.
    handover: connections can be given back to the kernel (filters/netd/handover.py): it translates addresses
        and takes options out of TCP's headers (5.18).
    """

    native_queue: bool
    timeout_update: bool
    handover: bool
