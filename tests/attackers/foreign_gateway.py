"""A gateway that is none: it stands between an agent and the real gateway, and alters m2.

    python -m tests.attackers.foreign_gateway SETUP PORT

Reads the name of the next alteration from its standard input; says what the agent sent after each altered m2.
"""

import os
import socket
import sys
import threading
from collections.abc import Callable

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from tests.attackers.attempt import say
from tests.foreign.appraisal import selection_of
from tests.foreign.setup import Setup
from tests.foreign.tpm import Tpm
from tests.foreign.wire import M1, M2, D, HungUp, Reader, Refused, Wire, blob, encode_batch, label, u32
from tests.foreign.wire import Batch as Proof

Alter = Callable[["Parts", "ForeignGateway"], bytes]


class Parts:
    """m2 in parts that can be put together anew."""

    def __init__(self, m1: bytes, body: bytes) -> None:
        outer = Reader(body)
        self.m1, core = m1, outer.blob()
        self.proof = Proof(outer)
        inner = Reader(core)
        self.fields = [inner.blob() for _ in range(8)]

    @property
    def core(self) -> bytes:
        return b"".join(map(blob, self.fields))

    def with_field(self, index: int, value: bytes) -> bytes:
        self.fields[index] = value
        return blob(self.core) + self.proof.encoded

    def with_proof(self, index: int, size: int, *path: bytes) -> bytes:
        return blob(self.core) + encode_batch(self.proof.quote, index, size, path)


class ForeignGateway:
    """Takes connections one after the other."""

    def __init__(self, setup: Setup, port: int) -> None:
        self.setup, self.alteration, self.earlier = setup, "", b""
        self.server = socket.create_server(("127.0.0.1", port))

    def serve(self) -> None:
        while True:
            agent = Wire(self.server.accept()[0])
            try:
                self.relay(agent)
            except (HungUp, Refused, OSError):
                pass
            finally:
                agent.close()

    def relay(self, agent: Wire) -> None:
        """Pass m1 on, m2 back altered, and see whether the agent says anything to that."""
        alteration = self.alteration
        gateway = Wire.connect(*self.setup.address)
        try:
            m1 = agent.receive(M1)[1]
            gateway.send(M1, m1)
            genuine = gateway.receive(M2)[1]
            altered = ALTERATIONS[alteration](Parts(m1, genuine), self)
            self.earlier = genuine
            agent.send(M2, altered)
            say(alteration=alteration, said=self.heard_from(agent))
        finally:
            gateway.close()

    @staticmethod
    def heard_from(agent: Wire) -> int | None:
        try:
            return agent.receive()[0]
        except HungUp:
            return None

    def signed_by_another(self, parts: Parts) -> bytes:
        """A TPM's good signature over the right leaf, but of this place's own TPM."""
        root = parts_root(parts)
        data = label("gateway-batch", u32(1) + blob(root))
        quote = Tpm(self.setup.tpm).quote(selection_of(self.setup.gateway.indices), data)
        return blob(parts.core) + encode_batch(quote, 0, 1, ())


def parts_root(parts: Parts) -> bytes:
    """The root of a tree with this handshake alone."""
    single = Proof(Reader(encode_batch((b"", b""), 0, 1, ())))
    return single.root(D(parts.m1, parts.core))


def own_share() -> bytes:
    return X25519PrivateKey.generate().public_key().public_bytes_raw()


ALTERATIONS: dict[str, Alter] = {
    "foreign-index": lambda parts, _: parts.with_proof(1, 2),
    "index-beyond-size": lambda parts, _: parts.with_proof(parts.proof.size, parts.proof.size),
    "foreign-size": lambda parts, _: parts.with_proof(0, 2, os.urandom(32)),
    "size-beyond-all": lambda parts, _: parts.with_proof(0, 1 << 20),
    "another-signer": lambda parts, own: own.signed_by_another(parts),
    "earlier-m2": lambda parts, own: own.earlier,
    "own-share": lambda parts, _: parts.with_field(3, own_share()),
    "fewer-pcrs": lambda parts, _: parts.with_field(4, selection_of([4])),
    "another-name": lambda parts, _: parts.with_field(0, b"lab/another"),
}  # fmt: skip


def main() -> None:
    foreign = ForeignGateway(Setup(sys.argv[1]), int(sys.argv[2]))
    foreign.alteration = sys.stdin.readline().strip()
    threading.Thread(target=foreign.serve, daemon=True).start()
    for line in sys.stdin:
        foreign.alteration = line.strip()


if __name__ == "__main__":
    main()
