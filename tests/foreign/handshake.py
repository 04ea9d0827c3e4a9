"""Enrollment and handshake of a peer, message by message, so that a caller may do wrong with any of them."""

import os
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from tests.foreign import wire
from tests.foreign.appraisal import Verified, check_reference, demand, name, replay
from tests.foreign.session import Session
from tests.foreign.setup import Setup
from tests.foreign.tpm import AK, EK, Tpm
from tests.foreign.wire import Batch, D, H, Quote, Reader, Records, Wire, X, blob, label, mac, text, u8


@dataclass
class M2:
    """m2, taken apart."""

    core: bytes
    gateway_id: str
    ak_name: bytes
    share: bytes
    selection: bytes
    epoch: bytes
    log: bytes
    batch: Batch

    @classmethod
    def read(cls, body: bytes) -> "M2":
        outer = Reader(body)
        core = outer.blob()
        batch = Batch(outer)
        outer.end()
        inner = Reader(core)
        gateway_id, ak_name, _, share = inner.text(), inner.blob(), inner.blob(32), inner.blob(32)
        selection, _, epoch, log = inner.blob(), inner.text(), inner.blob(16), inner.blob()
        inner.end()
        return cls(core, gateway_id, ak_name, share, selection, epoch, log, batch)


@dataclass
class Handshake:
    """The four messages, one by one."""

    setup: Setup
    tpm: Tpm
    link: Wire
    private: X25519PrivateKey = field(default_factory=X25519PrivateKey.generate)
    m1: bytes = b""
    m2: M2 | None = None
    m4: bytes = b""
    verified: Verified | None = None
    th2: bytes = b""
    secrets: dict[str, bytes] = field(default_factory=dict)

    def send_m1(
        self, *, version: int = 1, suite: int = 1, peer_id: str = "", profile: str = "", ak: bytes = b""
    ) -> None:
        head = u8(version) + wire.u16(suite) + text(peer_id or self.setup.peer_id)
        keys = blob(ak or name(self.tpm.public(AK))) + blob(os.urandom(32))
        share = blob(self.private.public_key().public_bytes_raw())
        self.m1 = head + keys + share + text(profile or self.setup.profile["id"])
        self.link.send(wire.M1, self.m1)

    def take_m2(self, previous: Verified | None = None) -> None:
        """Verify the gateway before anything of ours goes out; derive the handshake's keys."""
        setup = self.setup
        kind, body = self.link.receive(wire.M2, wire.REFERENCES)
        if kind == wire.REFERENCES:
            setup.take_references(body)
            body = self.link.receive(wire.M2)[1]
        m2 = self.m2 = M2.read(body)
        demand(
            (m2.gateway_id, m2.ak_name) == (setup.gateway_id, name(setup.gateway.ak_public)), "wrong-gateway"
        )
        demand(m2.selection == setup.selection, "relabelled-pcr")
        root = m2.batch.root(D(self.m1, m2.core))
        signed = label("gateway-batch", wire.u32(m2.batch.size) + blob(root))
        values = replay(m2.log, setup.gateway.indices)
        self.verified = setup.gateway.verify(m2.batch.quote, signed, values, previous, same_boot=False)
        check_reference(values, setup.profile["references"], setup.references["payload"]["values"])
        self._derive(m2)

    def _derive(self, m2: M2) -> None:
        self.th2 = D(self.m1, m2.core, m2.batch.encoded)
        shared = self.private.exchange(X25519PublicKey.from_public_bytes(m2.share))
        hs = mac(bytes(32), shared)
        peer, gateway = X(hs, "peer handshake", self.th2), X(hs, "gateway handshake", self.th2)
        self.secrets = {
            "peer": peer, "gateway": gateway, "finP": X(peer, "finished"), "finG": X(gateway, "finished"),
            "master": mac(X(hs, "derived"), bytes(32)),
        }  # fmt: skip

    def own_quote(self) -> Quote:
        return self.tpm.quote(self.setup.selection, label("peer", blob(self.th2)))

    def evidence(self, quote: Quote, layer: str = "tpm") -> bytes:
        log = self.setup.event_log.read_bytes()
        return u8(1) + text(layer) + blob(quote[0]) + blob(quote[1]) + blob(log) + blob(b"")

    def m3(self, evidence: bytes) -> bytes:
        """Return m3, sealed, and keep what m4 must fit."""
        th3 = D(self.th2, evidence)
        proof = mac(self.secrets["finP"], text("peer") + blob(th3))
        self.secrets["th4"] = D(th3, proof)
        return Records(self.secrets["peer"]).seal(blob(evidence) + blob(proof))

    def take_m4(self) -> Session:
        self.m4 = self.link.receive(wire.M4)[1]
        reader = Reader(Records(self.secrets["gateway"]).open(self.m4))
        proof, parameters = reader.blob(32), reader.blob()
        reader.end()
        th4 = self.secrets["th4"]
        demand(
            proof == mac(self.secrets["finG"], text("gateway") + blob(th4) + blob(parameters)), "wrong-mac"
        )
        assert self.m2 is not None
        assert self.verified is not None
        session = Session(
            self.setup, self.tpm, self.link, self.m2.epoch, self.m2.log, self.verified, Reader(parameters)
        )
        session.derive(self.secrets["master"], D(th4, proof, parameters))
        return session

    def run(self, previous: Verified | None = None) -> Session:
        """Do it all as an honest peer does."""
        self.send_m1()
        self.take_m2(previous)
        self.link.send(wire.M3, self.m3(self.evidence(self.own_quote())))
        return self.take_m4()


def enroll(setup: Setup, tpm: Tpm, link: Wire, peer_id: str = "") -> str:
    """Prove that AK and EK are in one TPM; return what the gateway says."""
    e1 = (
        text(peer_id or setup.peer_id)
        + blob(setup.certificate.read_bytes())
        + blob(tpm.public(EK))
        + blob(tpm.public(AK))
    )
    link.send(wire.ENROLL_HELLO, e1)
    e2 = link.receive(wire.ENROLL_CHALLENGE)[1]
    reader = Reader(e2)
    secret = tpm.activate(reader.blob(), reader.blob())
    link.send(wire.ENROLL_PROOF, blob(mac(secret, H(blob(e1) + blob(e2)))))
    return link.receive(wire.ENROLL_RESULT)[1].decode()
