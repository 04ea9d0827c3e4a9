"""Capture packets with tcpdump, and read them back."""

import signal
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from vmhost.commands import in_namespace
from vmhost.topology import INTERFACE

HEADERS = 96  # bytes of each packet, where only its headers matter
WHOLE = 262144
_ETHERNET = 14


@dataclass(slots=True)
class Capture:
    """A packet capture in a namespace; times are seconds since the epoch."""

    process: "subprocess.Popen[bytes]"
    file: Path

    @classmethod
    def start(
        cls,
        namespace: str,
        expression: str,
        directory: Path,
        interface: str = INTERFACE,
        length: int = HEADERS,
    ) -> "Capture":
        """Start capturing what comes in or goes out, and wait until it does."""
        file = directory / f"{namespace}-{interface}-{time.monotonic_ns()}.pcap"
        words = [
            "tcpdump", "-i", interface, "-n", "-U", "--immediate-mode", "-s", str(length), "-w", str(file), "-Z", "root",
            expression,
        ]  # fmt: skip
        process = subprocess.Popen(
            in_namespace(namespace, words), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
        )
        assert process.stderr is not None  # noqa: S101 - it is a pipe
        while (line := process.stderr.readline()) and b"listening" not in line:
            pass
        return cls(process, file)

    def packets(self) -> list[tuple[float, bytes]]:
        """Return (time, packet from its IP header) of everything captured so far (pcap-savefile(5))."""
        data = self.file.read_bytes()
        found, at = [], 24
        while at + 16 <= len(data):
            seconds, micros, length, _ = struct.unpack_from("<IIII", data, at)
            if at + 16 + length > len(data):
                break
            found.append((seconds + micros / 1e6, data[at + 16 + _ETHERNET : at + 16 + length]))
            at += 16 + length
        return found

    def stop(self) -> list[tuple[float, bytes]]:
        """Stop and return what was captured."""
        time.sleep(0.05)
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(5)
        packets = self.packets()
        self.file.unlink()
        return packets


def payload(packet: bytes) -> bytes:
    """Return what a TCP packet carries."""
    header = (packet[0] & 15) * 4
    return packet[header + (packet[header + 12] >> 4) * 4 : int.from_bytes(packet[2:4], "big")]
