"""Many attesting peers in one process: `python -m bench.swarm SETUP COUNT`. Prints how many stand, now and then."""

import asyncio
import json
import os
import sys
from ipaddress import IPv4Address
from pathlib import Path

from authn import labels, messages
from authn.event_log import EV_IPL, LogEvent, build_event_log, replay
from authn.fields import FrameReader, FrameType, encode_frame
from authn.handshake import Command, Established, EstablishedSession, SendFrame, WantQuote
from authn.handshake_peer import PeerConfig, PeerHandshake
from authn.profile import Profile
from authn.public_area import AttestationKey
from bench.soft_tpm import SoftTpm

LOG = build_event_log([LogEvent(4, EV_IPL, bytes([4]) * 32, b"swarm")])
PROFILE = Profile.of("swarm", {4: "swarm"})


class Peer:
    """One simulated peer."""

    def __init__(self, number: int, setup: dict[str, str]) -> None:
        self.tpm, self.setup, self.name = SoftTpm(number), setup, f"s{number}"
        self.ip = str(IPv4Address(setup["first_ip"]) + number)
        self.values = replay([LogEvent(4, EV_IPL, bytes([4]) * 32, b"")], PROFILE.selection)

    async def run(self, standing: set[str]) -> None:
        """Attest for ever."""
        while True:
            try:
                await self._session(standing)
            except Exception as error:  # noqa: BLE001 - a peer of a load test says why and tries again
                print(f"{self.name}: {error!r}", file=sys.stderr, flush=True)
            standing.discard(self.name)
            await asyncio.sleep(1.0)

    async def _session(self, standing: set[str]) -> None:
        reader, writer = await asyncio.open_connection(
            self.setup["gateway_ip"], 7443, local_addr=(self.ip, 0)
        )
        key = AttestationKey.from_public(bytes.fromhex(self.setup["ak"]), bytes.fromhex(self.setup["ek"]))
        profile = Profile.from_json(json.loads(self.setup["gateway_profile"]))
        config = PeerConfig(
            f"{self.setup['platform']}/{self.name}", self.tpm.identity.name, PROFILE.selection, self.setup["gateway_id"], key, profile,
            lambda _measured: None, None, LOG,
        )  # fmt: skip
        machine, frames = PeerHandshake(config, os.urandom), FrameReader()
        session = self._carry_out(machine, machine.start(), writer)
        while data := await reader.read(65536):
            for frame in frames.feed(data):
                if session is None:
                    session = self._carry_out(machine, machine.receive(frame.type, frame.body), writer)
                elif isinstance(beacon := messages.decode(session.receive.open(frame.body)), messages.Beacon):
                    standing.add(self.name)
                    label = labels.beacon(beacon.nonce, session.epoch, session.exporter)
                    quote = self.tpm.quote(PROFILE.selection, label, self.values)
                    answer = messages.encode(messages.BeaconAnswer(beacon.number, quote, os.urandom(32), b""))
                    writer.write(encode_frame(FrameType.RECORD, session.send.seal(answer)))

    def _carry_out(
        self, machine: PeerHandshake, commands: list[Command], writer: asyncio.StreamWriter
    ) -> EstablishedSession | None:
        for command in commands:
            match command:
                case SendFrame(kind, body):
                    writer.write(encode_frame(kind, body))
                case WantQuote(selection, data):
                    return self._carry_out(
                        machine, machine.quote(self.tpm.quote(selection, data, self.values)), writer
                    )
                case Established(session):
                    return session
        return None


async def main(setup: dict[str, str], count: int) -> None:
    """Start the peers a few at a time."""
    standing: set[str] = set()
    tasks = []
    for number in range(count):
        tasks.append(asyncio.create_task(Peer(number, setup).run(standing)))
        await asyncio.sleep(0.02)
    while True:
        print(len(standing), flush=True)
        await asyncio.sleep(1.0)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text()), int(sys.argv[2])))
