"""Share one TPM among several local clients: one whole command and its answer at a time, as /dev/tpm0 does.

`python -m vmhost.tpm_share --upstream RAW --listen SOCKET`. The control socket `SOCKET.ctrl` answers what
tpm2-tss' swtpm transport asks at start (swtpm_ioctls(3): 32-bit result 0) and changes nothing.
"""

import argparse
import asyncio
import os
import struct
from pathlib import Path

HEADER = struct.Struct(">HII")
MAX_COMMAND = 4096
CONTROL_OK = bytes(4)


class TpmShare:
    """The one connection to the TPM, and the lock around it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._lock = asyncio.Lock()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client until it hangs up or sends what is no TPM command."""
        try:
            while (command := await read_packet(reader)) is not None:
                async with self._lock:
                    self._writer.write(command)
                    answer = await read_packet(self._reader)
                if answer is None:
                    break
                writer.write(answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


async def read_packet(reader: asyncio.StreamReader) -> bytes | None:
    """Read one command or response by its own length; None at the end or for an impossible length."""
    try:
        header = await reader.readexactly(HEADER.size)
    except asyncio.IncompleteReadError:
        return None
    _, size, _ = HEADER.unpack(header)
    if not HEADER.size <= size <= MAX_COMMAND:
        return None
    return header + await reader.readexactly(size - HEADER.size)


async def answer_control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Say yes to every control command: localities and cancelling mean nothing here."""
    try:
        while await reader.read(64):
            writer.write(CONTROL_OK)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


async def run(upstream: Path, listen: Path) -> None:
    """Connect to the TPM and serve until the TPM is gone or we are ended."""
    os.umask(0o117)  # owner and group may connect from the first moment, nobody else
    share = TpmShare(*await asyncio.open_unix_connection(upstream))
    servers = []
    for path, handler in ((listen, share.serve), (Path(f"{listen}.ctrl"), answer_control)):
        path.unlink(missing_ok=True)
        servers.append(await asyncio.start_unix_server(handler, path))
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="tpm-share", description="Share one TPM among local clients.")
    parser.add_argument("--upstream", type=Path, required=True, help="the TPM's own socket")
    parser.add_argument("--listen", type=Path, required=True, help="the socket to serve")
    arguments = parser.parse_args()
    asyncio.run(run(arguments.upstream, arguments.listen))


if __name__ == "__main__":
    main()
