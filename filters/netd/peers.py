"""Trust and distrust peers, quarantine them, open and close communication altogether."""

from ipaddress import IPv4Address

from filters.errors import NetdError
from filters.netd import elements
from filters.netd.book import remaining_ms
from filters.netd.nf_tables import remove, replace
from filters.netd.protocol import NetdCode
from filters.netd.state import State, boottime


def trust(state: State, ip: IPv4Address, expires_at: float) -> None:
    """Trust a pinned peer until `expires_at` (CLOCK_BOOTTIME s); one in the past distrusts it.

    Raises NetdError `quarantined`: the rules count on it that no such peer is trusted.
    """
    state.check_pinned(ip)
    now = boottime()
    if expires_at <= now:
        distrust(state, ip)
        return
    if ip in state.book.quarantined:
        message = f"{ip} is in quarantine: release it before it is trusted again"
        raise NetdError(NetdCode.QUARANTINED.value, message, ip=str(ip))
    state.kernel.renew([elements.trusted(ip, remaining_ms(expires_at, now))])
    state.book.trusted[ip] = expires_at


def distrust(state: State, ip: IPv4Address) -> None:
    """Cut an address off, pinned or not: its packets, and those to it, drop from now on."""
    state.loaded()
    state.kernel.apply(remove(elements.trusted(ip, 1000)))
    state.book.trusted.pop(ip, None)


def quarantine(state: State, ip: IPv4Address, on: bool) -> None:
    """Put an address in quarantine, which ends its trust in the same moment, or take it out: pinned or not, it only forbids."""
    state.loaded()
    element = elements.quarantined(ip)
    if not on:
        state.kernel.apply(remove(element))
        state.book.quarantined.discard(ip)
        return
    state.kernel.apply([*remove(elements.trusted(ip, 1000)), *replace(element)])
    state.book.trusted.pop(ip, None)
    state.book.quarantined.add(ip)


def set_authority(state: State, expires_at: float | None) -> None:
    """Allow communication until `expires_at`; None: revoked, as if there had never been an authority."""
    state.loaded()
    now = boottime()
    had = elements.authority_had(state.interface)
    if expires_at is None:
        steps = remove(elements.authority(state.interface, 1000), had)
    elif expires_at <= now:
        steps = [*remove(elements.authority(state.interface, 1000)), *replace(had)]
    else:
        steps = replace(elements.authority(state.interface, remaining_ms(expires_at, now)), had)
    state.kernel.apply(steps)
    state.book.authority_until = expires_at
