"""Ask ClamAV's clamd about an object, over its unix socket (clamd(8), INSTREAM). It does I/O: only judges call it."""

import socket
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filters.inspection.finding import Finding
from filters.reason import DropReason

CHECK: Final = "clamd"
_CHUNK: Final = 1 << 20
_LONGEST_ANSWER: Final = 4096


@dataclass(frozen=True, slots=True)
class Clamd:
    """A second opinion. Whatever it can't say is a finding as well: nothing passes for want of an answer."""

    path: Path

    def __call__(self, data: bytes, timeout_s: float) -> list[Finding]:
        """Return what clamd says of an object."""
        try:
            answer = self._ask(data, timeout_s)
        except TimeoutError:
            return [Finding(DropReason.INSPECTOR_TIMEOUT, CHECK, f"no answer within {timeout_s:g} s")]
        except OSError as error:
            detail = f"clamd is away: {self.path.name}: {error.strerror or error}"
            return [Finding(DropReason.INSPECTOR_DOWN, CHECK, detail)]
        return judge_answer(answer)

    def _ask(self, data: bytes, timeout_s: float) -> bytes:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as clamd:
            clamd.settimeout(timeout_s)
            clamd.connect(str(self.path))
            try:
                clamd.sendall(b"zINSTREAM\0")
                view = memoryview(data)
                for at in range(0, len(data), _CHUNK):
                    piece = view[at : at + _CHUNK]
                    clamd.sendall(struct.pack("!I", len(piece)))
                    clamd.sendall(piece)
                clamd.sendall(bytes(4))
            except BrokenPipeError:
                pass  # it has said why already: too large
            answer = b""
            while b"\0" not in answer and len(answer) < _LONGEST_ANSWER:
                more = clamd.recv(_LONGEST_ANSWER)
                if not more:
                    break
                answer += more
            return answer


def judge_answer(untrusted_answer: bytes) -> list[Finding]:
    """Return what an answer means: `stream: OK`, `stream: NAME FOUND`, or a complaint that ends in ERROR."""
    text = untrusted_answer.split(b"\0")[0].decode(errors="replace").removeprefix("stream: ").strip()[:200]
    if text == "OK":
        return []
    if text.endswith(" FOUND"):
        return [Finding(DropReason.MALWARE, f"{CHECK}.{text.removesuffix(' FOUND')}", "ClamAV recognised it")]
    if "size limit exceeded" in text:
        return [
            Finding(
                DropReason.RESOURCE_LIMIT, CHECK, f"{text}: raise StreamMaxLength in clamd's configuration"
            )
        ]
    return [Finding(DropReason.INSPECTOR_DOWN, CHECK, f"expected OK or FOUND; got {text!r}")]
