"""Signed heads: the chain's end, sealed by the gateway's TPM together with a counter that only grows."""

import json
from dataclasses import dataclass

from authn import labels
from authn.attest import parse_quote
from authn.errors import AttestationError
from authn.evidence import Quote
from authn.public_area import AttestationKey
from authn.quote import check_signature


@dataclass(frozen=True, slots=True)
class SignedHead:
    """Sequence and hash of the last record at one moment, with the TPM's quote over both and a counter."""

    sequence: int
    hash: bytes
    counter: int
    quote: Quote
    time_ms: int

    def to_json(self) -> str:
        """Write the head as JSON text."""
        quote = {"attest": self.quote.attest.hex(), "signature": self.quote.signature.hex()}
        return json.dumps(
            {
                "sequence": self.sequence,
                "hash": self.hash.hex(),
                "counter": self.counter,
                "time_ms": self.time_ms,
                **quote,
            }
        )

    @classmethod
    def from_json(cls, text: str) -> "SignedHead":
        """Read a head; raises ValueError or KeyError."""
        data = json.loads(text)
        quote = Quote(bytes.fromhex(data["attest"]), bytes.fromhex(data["signature"]))
        return cls(
            int(data["sequence"]),
            bytes.fromhex(data["hash"]),
            int(data["counter"]),
            quote,
            int(data["time_ms"]),
        )

    def signed_by(self, key: AttestationKey) -> bool:
        """Tell whether the gateway's TPM signed exactly this head."""
        try:
            check_signature(self.quote, key)
            attest = parse_quote(self.quote.attest)
        except AttestationError:
            return False
        wanted = labels.audit_head(self.sequence, self.hash, self.counter)
        return attest.extra_data == wanted and attest.qualified_signer == key.qualified_name
