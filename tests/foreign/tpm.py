"""Speak to a TPM 2.0 in its own bytes over a unix socket (TPM 2.0 Part 3): no software stack in between."""

import contextlib
import os
import socket
import struct
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from tests.foreign.wire import Quote, u16, u32

QUOTE, READ_PUBLIC, PCR_EXTEND, START_SESSION, POLICY_SECRET, ACTIVATE = (
    0x158,
    0x173,
    0x182,
    0x176,
    0x151,
    0x147,
)
EK, AK = 0x81010016, 0x81010101
ENDORSEMENT, NULL = 0x4000000B, 0x40000007
PASSWORD = u32(0x40000009) + u16(0) + b"\0" + u16(0)


class TpmRefused(Exception):
    """The TPM answered with an error code."""


def sized(value: bytes) -> bytes:
    return u16(len(value)) + value


def unsized(data: bytes) -> tuple[bytes, bytes]:
    """Split a TPM2B from what follows."""
    end = 2 + int.from_bytes(data[:2], "big")
    return data[2:end], data[end:]


class Tpm:
    """One connection to one TPM."""

    def __init__(self, path: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(path.removeprefix("swtpm:path="))

    def command(self, code: int, handles: bytes, parameters: bytes, *sessions: bytes) -> bytes:
        """Run a command; return what follows the response's header (and size of parameters)."""
        area = b"".join(sessions)
        body = handles + (u32(len(area)) + area if sessions else b"") + parameters
        self.sock.sendall(struct.pack(">HII", 0x8002 if sessions else 0x8001, 10 + len(body), code) + body)
        header = self.sock.recv(10, socket.MSG_WAITALL)
        if len(header) < 10:
            raise ConnectionResetError("the TPM hung up")
        _, size, result = struct.unpack(">HII", header)
        answer = self.sock.recv(size - 10, socket.MSG_WAITALL) if size > 10 else b""
        if result:
            raise TpmRefused(f"command {code:#x}: {result:#x}")
        return answer[4:] if sessions else answer

    def quote(self, selection: bytes, data: bytes) -> Quote:
        """TPM2_Quote with the AK; the signature is TPMT_SIGNATURE."""
        scheme = u16(0x0010)
        answer = self.command(QUOTE, u32(AK), sized(data) + scheme + selection, PASSWORD)
        attest, rest = unsized(answer)
        r_end = 6 + int.from_bytes(rest[4:6], "big")
        s_end = r_end + 2 + int.from_bytes(rest[r_end : r_end + 2], "big")
        return attest, rest[:s_end]

    def public(self, handle: int) -> bytes:
        """TPM2_ReadPublic: TPMT_PUBLIC."""
        return unsized(self.command(READ_PUBLIC, u32(handle), b""))[0]

    def extend(self, index: int, digest: bytes) -> None:
        """TPM2_PCR_Extend in the SHA-256 bank."""
        self.command(PCR_EXTEND, u32(index), u32(1) + u16(0x000B) + digest, PASSWORD)

    def activate(self, id_object: bytes, secret: bytes) -> bytes:
        """TPM2_ActivateCredential; the EK's policy is PolicySecret of the endorsement hierarchy."""
        start = sized(os.urandom(16)) + sized(b"") + b"\1" + u16(0x0010) + u16(0x000B)
        session = self.command(START_SESSION, u32(NULL) + u32(NULL), start)[:4]
        nothing = sized(b"") * 3 + u32(0)
        self.command(POLICY_SECRET, u32(ENDORSEMENT) + session, nothing, PASSWORD)
        policy = session + u16(0) + b"\0" + u16(0)
        answer = self.command(ACTIVATE, u32(AK) + u32(EK), sized(id_object) + sized(secret), PASSWORD, policy)
        return unsized(answer)[0]


@contextlib.contextmanager
def powered_on(state: Path) -> Iterator[Tpm]:
    """Run a software TPM of one's own on a directory of states."""
    path = state / "own.sock"
    process = subprocess.Popen(
        [
            "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state}", "--server", f"type=unixio,path={path}",
            "--flags", "not-need-init,startup-clear",
        ]
    )  # fmt: skip
    try:
        while not path.exists() and process.poll() is None:
            time.sleep(0.01)
        yield Tpm(str(path))
    finally:
        process.kill()
        process.wait(5)
