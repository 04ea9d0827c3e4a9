"""The `quotegate-agent` command."""

import argparse
import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from gateway.errors import GatewayError

SOCKET_VARIABLE = "QUOTEGATE_AGENT_SOCKET"
DEFAULT_SOCKET = "/run/quotegate-agent/agent.sock"
DEFAULT_TPM = "device:/dev/tpmrm0"
EXIT_REFUSED, EXIT_INCOMPLETE, EXIT_ERROR = 3, 4, 1
# what is wrong here, not the gateway's refusal
_OWN = frozenset(
    {
        "away",
        "bad-answer",
        "bad-request",
        "bad-service",
        "bad-setup",
        "unreadable-setup",
        "no-tpm",
        "no-answer",
        "not-connected",
    }
)

EXAMPLES = """examples:
  quotegate-agent status
  quotegate-agent identity >ek.hex
  quotegate-agent open db udp/53; dig @db
  pg_dump shop | quotegate-agent connect db tcp/5432

exit status: 0 done, 1 error here, 2 wrong usage, 3 refused by the gateway, 4 not everything arrived
"""


def build_parser() -> argparse.ArgumentParser:
    """Declare the words of `quotegate-agent`."""
    parser = argparse.ArgumentParser(
        prog="quotegate-agent",
        description="Prove this machine to the gateway, and open sessions with other machines.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    default = Path(os.environ.get(SOCKET_VARIABLE, DEFAULT_SOCKET))
    parser.add_argument(
        "--socket", type=Path, default=default, help=f"the agent's socket (or ${SOCKET_VARIABLE})"
    )
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run the agent")
    run.add_argument("--setup", type=Path, required=True, help="this peer's setup file")
    for verb, help_ in (
        ("open", "open a session for this machine's programs"),
        ("connect", "open a session and carry stdin and stdout over it"),
    ):
        asking = commands.add_parser(verb, help=help_)
        asking.add_argument("peer", help="the other machine, for example db")
        asking.add_argument("service", help="its service, for example tcp/5432")
    identity = commands.add_parser(
        "identity", help="print this TPM's endorsement key, for: quotegate guest issue --ek"
    )
    identity.add_argument("--tpm", default=DEFAULT_TPM, help=f"the TPM (default: {DEFAULT_TPM})")
    status = commands.add_parser("status", help="show how this machine stands with the gateway")
    status.add_argument("--json", action="store_true", help="print JSON")
    return parser


async def _run(setup_file: Path) -> None:
    from authn.tpm_worker import TpmWorker
    from filters.memory import forbid_inspection
    from gateway.agent.agent import Agent
    from gateway.agent.local import serve_local
    from gateway.agent.setup import AgentSetup
    from gateway.agent.tcp_diag import TcpDiag
    from gateway.agent.witness import Witness

    forbid_inspection()
    setup = AgentSetup.load(setup_file)
    worker = TpmWorker(setup.tpm)
    agent = Agent(setup, worker, Witness(TcpDiag()))
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(agent.run(), name="agent"),
            group.create_task(serve_local(agent), name="local"),
        ]
        asyncio.get_running_loop().add_signal_handler(
            signal.SIGTERM, lambda: [task.cancel() for task in tasks]
        )


async def _open(socket: Path, peer: str, service: str) -> None:
    from gateway.agent.connect import open_session

    session = await open_session(socket, peer, service)
    print(f"open for {session.lease_s:.0f} s: {service} of {peer}, {session.ip}")  # noqa: T201 - the command's answer


async def _connect(socket: Path, peer: str, service: str) -> int:
    from gateway.agent.connect import connect

    transfer = await connect(socket, peer, service)
    outcome = "delivered" if transfer.complete else "incomplete"
    print(  # noqa: T201 - the command's answer
        f"{outcome}: sent {transfer.sent} bytes, {transfer.acknowledged} acknowledged, {transfer.confirmed} confirmed by {peer}",
        file=sys.stderr,
    )
    return 0 if transfer.complete else EXIT_INCOMPLETE


async def _status(socket: Path, as_json: bool) -> None:
    from gateway.agent.connect import ask_agent
    from gateway.rpc import RpcClient

    rpc = await RpcClient.connect(socket)
    answer = await ask_agent(rpc, "status")
    answer.pop("ok")
    text = (
        json.dumps(answer) if as_json else f"{answer['peer']}: {answer['state']} {answer['detail']}".strip()
    )
    print(text)  # noqa: T201 - the command's answer


def _identity(tcti: str) -> None:
    """Print the endorsement key; a TPM without one gets it, and its attestation key, now."""
    from authn.errors import AuthnError
    from authn.tpm import Tpm

    try:
        with Tpm(tcti) as tpm:
            print(tpm.provision().ek_public.hex())  # noqa: T201 - the command's answer
    except AuthnError as error:
        raise GatewayError("no-tpm", f"{error.message}; run this as root, where the TPM is") from error


def main() -> None:
    """Parse the command line and run; exit 3: refused by the gateway, 4: not everything arrived."""
    arguments = build_parser().parse_args()
    try:
        if arguments.command == "run":
            asyncio.run(_run(arguments.setup))
        elif arguments.command == "open":
            asyncio.run(_open(arguments.socket, arguments.peer, arguments.service))
        elif arguments.command == "connect":
            sys.exit(asyncio.run(_connect(arguments.socket, arguments.peer, arguments.service)))
        elif arguments.command == "identity":
            _identity(arguments.tpm)
        else:
            asyncio.run(_status(arguments.socket, arguments.json))
    except GatewayError as error:
        print(f"quotegate-agent: {error.code}: {error.message}", file=sys.stderr)  # noqa: T201 - the command's answer
        sys.exit(EXIT_REFUSED if error.code not in _OWN else EXIT_ERROR)
    except ExceptionGroup as group:
        sys.exit(f"quotegate-agent: {'; '.join(str(error) for error in group.exceptions)}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
