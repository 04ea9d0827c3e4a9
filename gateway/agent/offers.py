"""Remember what the gateway let through to this machine: what it may ask this machine to witness. Pure."""

from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv4Address

from authn.fields import malformed
from authn.messages import SessionOffer
from filters.policy.services import parse_service

REMEMBERED = 8192  # the newest: a gateway asks about what is going on, or was over a while ago


@dataclass(frozen=True, slots=True)
class Offered:
    """Who was let through, and to which of this machine's ports."""

    from_ip: IPv4Address
    port: int


class Offers:
    """The newest offers by session id, also of sessions that are over: deliveries are asked about afterwards."""

    def __init__(self) -> None:
        self._offers: OrderedDict[str, Offered] = OrderedDict()

    def note(self, offer: SessionOffer) -> None:
        """Keep an offer; raises AttestationError `malformed-message`."""
        try:
            offered = Offered(IPv4Address(offer.from_ip), parse_service(offer.service).port)
        except ValueError:
            raise malformed("an offer does not name an IPv4 address and a service") from None
        self._offers[offer.session_id] = offered
        self._offers.move_to_end(offer.session_id)
        while len(self._offers) > REMEMBERED:
            self._offers.popitem(last=False)

    def find(self, session_id: str) -> Offered | None:
        """Return what was offered under this id; None for what was not, or too long ago."""
        return self._offers.get(session_id)
