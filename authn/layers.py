"""Evidence as it travels: a list of layers, one for each TPM that vouches for the machine (RFC 9334, 3.3).

Today there is one layer, the machine's own TPM. A layer that is not known here is carried and bound into the
transcript, and judged by nobody; a profile that demands it refuses the machine.
"""

from dataclasses import dataclass

from authn.evidence import Quote
from authn.fields import Reader, Writer, malformed
from authn.ima import MAX_LIST

OWN_TPM = "tpm"
KNOWN = frozenset({OWN_TPM})
MAX_LAYERS = 4
MAX_LOG = 4 << 20


@dataclass(frozen=True, slots=True)
class Layer:
    """What one TPM says: its quote, and the logs that explain the quoted PCRs. Nothing is verified yet."""

    name: str
    quote: Quote
    event_log: bytes
    ima_list: bytes = b""


def encode_layers(layers: tuple[Layer, ...]) -> bytes:
    """Write the list."""
    writer = Writer().u8(len(layers))
    for layer in layers:
        writer.text(layer.name).blob(layer.quote.attest).blob(layer.quote.signature)
        writer.blob(layer.event_log).blob(layer.ima_list)
    return writer.finish()


def decode_layers(untrusted: bytes) -> tuple[Layer, ...]:
    """Read the list; raises AttestationError `malformed-message`, also for two layers of one name."""
    cursor = Reader(untrusted)
    count = cursor.u8()
    if not 1 <= count <= MAX_LAYERS:
        raise malformed(f"the evidence has {count} layers, expected 1 to {MAX_LAYERS}")
    layers = tuple(_read_layer(cursor) for _ in range(count))
    cursor.finish()
    if len({layer.name for layer in layers}) != count:
        raise malformed("the evidence has two layers of one name")
    return layers


def _read_layer(cursor: Reader) -> Layer:
    name = cursor.text(at_most=32)
    quote = Quote(cursor.blob(at_most=4096), cursor.blob(at_most=1024))
    return Layer(name, quote, cursor.blob(at_most=MAX_LOG), cursor.blob(at_most=MAX_LIST))


def own_layer(layers: tuple[Layer, ...]) -> Layer:
    """Return the layer of the machine's own TPM; raises AttestationError `malformed-message` without one."""
    for layer in layers:
        if layer.name == OWN_TPM:
            return layer
    raise malformed(f"the evidence has no layer {OWN_TPM!r}")
