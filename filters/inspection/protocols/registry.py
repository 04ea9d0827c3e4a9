"""Choose the parser for a protocol, as the rule allows."""

from filters.inspection.finding import Refusal
from filters.inspection.limits import Limits
from filters.inspection.parser import Parser, Sink
from filters.inspection.protocols.dns import DnsStream
from filters.inspection.protocols.http.connection import HttpConnection
from filters.inspection.protocols.identify import Guess
from filters.inspection.protocols.opaque import Opaque
from filters.inspection.protocols.smtp import Smtp
from filters.inspection.protocols.ssh import Ssh
from filters.inspection.protocols.tls import Tls
from filters.inspection.spec import InspectionSpec
from filters.reason import DropReason


def open_parser(guess: Guess, spec: InspectionSpec, sink: Sink, limits: Limits) -> Parser:
    """Return the parser of what was recognised; raises Refusal when the rule demands another protocol."""
    if spec.protocol and guess.value != spec.protocol:
        raise Refusal(
            "protocol",
            f"the rule demands {spec.protocol}; the bytes are {guess.value}",
            DropReason.UNKNOWN_PROTOCOL,
        )
    match guess:
        case Guess.HTTP:
            return HttpConnection(sink, limits)
        case Guess.HTTP2:
            raise Refusal("http2", "HTTP/2 is not read here; use HTTP/1.1", DropReason.UNKNOWN_PROTOCOL)
        case Guess.TLS:
            return Tls(sink, limits)
        case Guess.SSH:
            return Ssh(sink, limits)
        case Guess.SMTP:
            return Smtp(sink, limits)
        case Guess.DNS:
            return DnsStream(sink, limits)
        case _:
            return Opaque(sink, from_start=True)
