"""Which programs run in the machines of a lab: data, made from the lab's paths."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from vmhost.lab.provisioning import LabPaths
from vmhost.names import AGENT_UID, GATEWAY, GATEWAY_UID, INSPECTOR_UID, NETD_UID, TPMD_UID, Lab
from vmhost.process import Program, Rights
from vmhost.spec import LabSpec
from vmhost.topology import INTERFACE

# what is measured as a machine's command: the programs, without this lab's paths
GATEWAY_ARGV = (
    "filters.netd.main",
    "gateway.tpmd.main",
    "gateway.daemon.main",
    "filters.inspection.worker.main",
)
AGENT_ARGV = ("gateway.agent.main", "run")

Programs = tuple[tuple[Program, Path | None], ...]
"""Programs in the order they start, each with the socket that shows that it is up (None: don't wait)."""


@dataclass(frozen=True, slots=True)
class Launcher:
    """Where the lab's code is and which Python runs it."""

    lab: Lab
    root: Path
    python: tuple[str, ...]

    @property
    def environment(self) -> dict[str, str]:
        """What every program finds in its environment."""
        return {"PYTHONPATH": str(self.root), "PYTHONDONTWRITEBYTECODE": "1"}

    def program(
        self,
        name: str,
        argv: tuple[str, ...],
        namespace: str,
        uid: int,
        capabilities: tuple[str, ...] = (),
    ) -> Program:
        """Describe a Python program (`argv` is what follows the interpreter) of this lab."""
        log = self.lab.run_dir / "log" / f"{name}.log"
        rights = Rights(uid, uid, capabilities)
        return Program(name, (*self.python, *argv), namespace, rights, log, self.environment)


ProgramsOf = Callable[[Launcher, LabSpec], Mapping[str, Programs]]


def lab_programs(launcher: Launcher, spec: LabSpec) -> dict[str, Programs]:
    """Describe the programs of every machine, by machine."""
    return {
        GATEWAY: _gateway_programs(launcher, spec.inspectors),
        **{peer.peer: _agent_programs(launcher, peer.peer) for peer in spec.peers if spec.images is None},
    }


def inspector_name(number: int) -> str:
    """Return the name of the program that is the inspector of this number."""
    return f"inspector-{number}" if number else "inspector"


def _gateway_programs(launcher: Launcher, inspectors: int) -> Programs:
    lab, paths = launcher.lab, LabPaths(launcher.lab)
    namespace, setup = lab.gateway_namespace, ("--setup", str(paths.gateway_setup))
    netd, tpmd = paths.socket("netd", "netd.sock"), paths.socket("tpmd", "tpmd.sock")
    inspector, control = paths.socket("netd", "inspector.sock"), paths.socket("quotegated", "inspectors.sock")
    inspector_argv = (
        "-m",
        "filters.inspection.worker.main",
        "--netd",
        str(inspector),
        "--control",
        str(control),
        "--material",
        str(lab.material),
    )
    netd_argv = (
        "-m", "filters.netd.main", "--socket", str(netd), "--client-uid", str(GATEWAY_UID), "--interface", INTERFACE,
        "--inspector-socket", str(inspector), "--inspector-uid", str(INSPECTOR_UID),
    )  # fmt: skip
    return (
        (launcher.program("netd", netd_argv, namespace, NETD_UID, ("net_admin",)), netd),
        (launcher.program("tpmd", ("-m", "gateway.tpmd.main", *setup), namespace, TPMD_UID), tpmd),
        (
            launcher.program("quotegated", ("-m", "gateway.daemon.main", *setup), namespace, GATEWAY_UID),
            lab.api_socket,
        ),
        *(
            (_inspector(launcher, inspector_argv, paths.inspector_temporary, number), None)
            for number in range(inspectors)
        ),
    )


def _inspector(launcher: Launcher, argv: tuple[str, ...], temporary: Path, number: int) -> Program:
    argv = (*argv, "--number", str(number))
    made = launcher.program(inspector_name(number), argv, launcher.lab.gateway_namespace, INSPECTOR_UID)
    # what one that was killed leaves there goes with the lab
    return replace(made, alone=True, environment={**made.environment, "TMPDIR": str(temporary)})


def _agent_programs(launcher: Launcher, peer: str) -> Programs:
    lab = launcher.lab
    argv = ("-m", *AGENT_ARGV, "--setup", str(LabPaths(lab).peer_setup(peer)))
    # the agent watches the kernel's announcements of closed connections: that takes CAP_NET_ADMIN
    agent = launcher.program(f"agent-{peer}", argv, lab.peer_namespace(peer), AGENT_UID, ("net_admin",))
    return ((agent, lab.agent_socket(peer)),)
