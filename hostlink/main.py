"""Run the gateway's end: `python -m hostlink.main --port DEVICE --api SOCKET --monitor SOCKET --monitor-uid UID`.

The host's requests go to the control API; the gateway's own wishes (restart a guest) go to the host's monitor. It
needs no rights. When the line breaks nobody can tell any more which byte belongs to what: it ends, and the machine
is started anew.
"""

import argparse
import asyncio
import os
import sys
from functools import partial
from pathlib import Path

from hostlink.endpoint import Endpoint, Streams
from hostlink.errors import LinkError

API, MONITOR = "api", "monitor"
_ANYBODY = 0o666  # who may use it is decided by SO_PEERCRED


async def open_port(device: Path) -> Streams:
    """Open the serial port; raises OSError."""
    loop = asyncio.get_running_loop()
    port = os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(port, "rb", 0))
    sending = os.fdopen(os.dup(port), "wb", 0)
    transport, protocol = await loop.connect_write_pipe(
        partial(asyncio.streams.FlowControlMixin, loop), sending
    )
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def run(port: Path, api: Path, monitor: Path, monitor_uid: int) -> None:
    """Carry until the line ends; raises LinkError, and OSError when it can't listen at `monitor`."""
    try:
        reader, writer = await open_port(port)
    except OSError as error:
        raise LinkError(
            "no-port", f"{port}: expected the serial port that the host gives, got: {error.strerror}"
        ) from error
    endpoint = Endpoint(reader, writer, 1, {API: partial(asyncio.open_unix_connection, api)})
    serving = asyncio.create_task(endpoint.serve(monitor, MONITOR, _ANYBODY, frozenset({monitor_uid})))
    running = asyncio.create_task(endpoint.run())
    try:
        done, _ = await asyncio.wait((running, serving), return_when=asyncio.FIRST_COMPLETED)
        for task in done:  # without either of them nobody is served: better to be started anew
            task.result()
    finally:
        for task in (running, serving):
            task.cancel()
        await asyncio.gather(running, serving, return_exceptions=True)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="hostlink", description="The gateway's line to its host.")
    parser.add_argument("--port", type=Path, required=True, help="the serial port")
    parser.add_argument("--api", type=Path, required=True, help="socket of the control API")
    parser.add_argument("--monitor", type=Path, required=True, help="socket to serve for the host's monitor")
    parser.add_argument("--monitor-uid", type=int, required=True, help="the only uid that may use it")
    options = parser.parse_args()
    try:
        asyncio.run(run(options.port, options.api, options.monitor, options.monitor_uid))
    except LinkError as error:
        sys.exit(f"hostlink: {error.code}: {error.message}")
    except OSError as error:
        sys.exit(
            f"hostlink: {options.monitor}: listening for the gateway's wishes: expected a directory to write to, got: "
            f"{error.strerror or error}"
        )


if __name__ == "__main__":
    main()
