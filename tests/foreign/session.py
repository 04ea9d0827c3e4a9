"""A peer's established session: records both ways, beacons answered, the gateway watched."""

import os
from typing import Any

from tests.foreign import wire
from tests.foreign.appraisal import Verified, demand, replay
from tests.foreign.setup import Setup
from tests.foreign.tpm import Tpm
from tests.foreign.wire import Batch, Foul, Quote, Reader, Records, Wire, X, blob, label, u64


class Session:
    """What a peer does from m4 on; `verified` is the gateway's last good quote, `log` its event log."""

    def __init__(
        self,
        setup: Setup,
        tpm: Tpm,
        link: Wire,
        epoch: bytes,
        log: bytes,
        verified: Verified,
        parameters: Reader,
    ) -> None:
        self.setup, self.tpm, self.link, self.epoch, self.verified = setup, tpm, link, epoch, verified
        self.values = replay(log, setup.gateway.indices)
        self.interval_ms, self.proof_every = parameters.number(4), parameters.number(4)
        self.challenges, self.beacons, self.proofs = [bytes(32)], 0, 0

    def derive(self, master: bytes, transcript: bytes) -> None:
        """Take the session's keys from the handshake."""
        self.out = Records(X(master, "peer traffic", transcript))
        self.into = Records(X(master, "gateway traffic", transcript))
        self.exporter = X(master, "exporter", transcript)
        self.id = X(master, "session id", transcript, 16).hex()

    def send(self, code: int, *fields: object) -> bytes:
        record = self.out.seal(wire.encode_message(code, *fields))
        self.link.send(wire.RECORD, record)
        return record

    def receive(self) -> tuple[int, list[Any]]:
        return wire.decode_message(self.into.open(self.link.receive(wire.RECORD)[1]))

    def check_beacon(self, number: int, proof: Batch | None) -> None:
        """Every k-th beacon must prove the gateway anew over one of the last four challenges."""
        demand(number == self.beacons + 1, "malformed-message")
        self.beacons = number
        if number % self.proof_every:
            return
        demand(proof is not None, "no-answer")
        assert proof is not None
        leaves = [
            label("gateway-beacon-leaf", u64(number) + blob(one) + blob(self.exporter))
            for one in self.challenges
        ]
        roots = {label("gateway-beacon", wire.u32(proof.size) + blob(proof.root(leaf))) for leaf in leaves}
        signed = Reader(proof.quote[0])
        signed.take(6), signed.take(signed.number(2))
        extra = signed.take(signed.number(2))
        demand(extra in roots, "replayed-nonce")
        self.verified = self.setup.gateway.verify(
            proof.quote, extra, self.values, self.verified, same_boot=True
        )
        self.proofs += 1

    def beacon_quote(self, nonce: bytes) -> Quote:
        return self.tpm.quote(
            self.setup.selection, label("beacon", blob(nonce) + blob(self.epoch) + blob(self.exporter))
        )

    def answer(self, number: int, quote: Quote) -> bytes:
        self.challenges = [*self.challenges, os.urandom(32)][-4:]
        return self.send(wire.ANSWER, number, quote, self.challenges[-1], b"")

    def handle(self, code: int, fields: list[Any]) -> None:
        """Do what an honest peer does with a message."""
        if code == wire.BEACON:
            number, nonce, _, _, proof = fields
            try:
                self.check_beacon(number, proof)
            except Foul as foul:
                self.send(wire.REFUSED, str(foul), "")
                raise
            self.answer(number, self.beacon_quote(nonce))
        elif code == wire.CHALLENGE:
            request, nonce = fields[:2]
            signed = label("session", blob(nonce) + blob(self.epoch) + blob(self.exporter) + u64(request))
            self.send(wire.PROOF, request, self.tpm.quote(self.setup.selection, signed), b"")
        elif code == wire.QUERY:
            self.send(wire.REPORT, fields[0], fields[1], 0, "unknown", 0)
