"""Run one software TPM per machine, shared by several local clients like /dev/tpm0."""

import os
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from vmhost.errors import HostError
from vmhost.names import Lab
from vmhost.process import Program, Rights, Running, start, wait_for_socket


@dataclass(slots=True)
class VirtualTpm:
    """A machine's TPM. Its state survives; each start is a power-on: PCRs zero, reset count grown."""

    lab: Lab
    machine: str
    namespace: str
    uid: int
    owner_gid: int
    python: tuple[str, ...]
    environment: dict[str, str]
    _running: list[Running]

    @classmethod
    def of(
        cls,
        lab: Lab,
        machine: str,
        namespace: str,
        uid: int,
        owner_gid: int,
        python: tuple[str, ...],
        environment: dict[str, str],
    ) -> "VirtualTpm":
        """Describe a TPM; nothing runs yet."""
        return cls(lab, machine, namespace, uid, owner_gid, python, environment, [])

    @property
    def tcti(self) -> str:
        """How tpm2-tss reaches it."""
        return f"swtpm:path={self.lab.tpm_socket(self.machine)}"

    def start(self) -> None:
        """Power it on; raises HostError when it does not answer."""
        state, sockets = self.lab.state_dir / "tpm" / self.machine, self.lab.tpm_socket(self.machine).parent
        raw = sockets / "swtpm.sock"
        for directory, mode in ((state, 0o700), (sockets, 0o750)):
            directory.mkdir(parents=True, exist_ok=True)
            os.chown(directory, self.uid, self.owner_gid)
            directory.chmod(mode)
        for name in ("swtpm.sock", "swtpm.ctrl", "tpm.sock", "tpm.sock.ctrl"):
            (sockets / name).unlink(missing_ok=True)
        rights = Rights(self.uid, self.owner_gid)
        self._launch(
            Program(
                f"swtpm-{self.machine}",
                (
                    "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={state},mode=0600",
                    "--server", f"type=unixio,path={raw},mode=0600", "--ctrl", f"type=unixio,path={sockets / 'swtpm.ctrl'},mode=0600",
                    "--flags", "not-need-init,startup-clear",
                ),
                self.namespace, rights, self._log("swtpm"),
            ),
            raw,
        )  # fmt: skip
        share = (
            *self.python,
            "-m",
            "vmhost.tpm_share",
            "--upstream",
            str(raw),
            "--listen",
            str(sockets / "tpm.sock"),
        )
        program = Program(
            f"tpm-{self.machine}", share, self.namespace, rights, self._log("tpm-share"), self.environment
        )
        self._launch(program, sockets / "tpm.sock.ctrl")

    def stop(self) -> None:
        """Power it off."""
        try:
            with ExitStack() as ending:
                for running in self._running:
                    ending.callback(running.stop)
        finally:
            self._running = [one for one in self._running if one.alive]

    @property
    def alive(self) -> bool:
        """Tell whether all its processes run."""
        return bool(self._running) and all(one.alive for one in self._running)

    def _log(self, name: str) -> Path:
        return self.lab.run_dir / "log" / f"{name}-{self.machine}.log"

    def _launch(self, program: Program, socket: Path) -> None:
        try:
            running = start(program)
            self._running.append(running)
            if not wait_for_socket(socket, running):
                raise HostError("tpm-failed", f"{program.name} did not come up; see {program.log}")
        except BaseException:
            self.stop()
            raise
