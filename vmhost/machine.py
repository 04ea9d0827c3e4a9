"""One machine of the lab: its TPM, its measured boot, its programs. Start and stop are whole."""

import os
import signal
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from authn.tpm import Tpm, TpmIdentity
from vmhost.errors import HostError
from vmhost.measured_boot import measure, measurements
from vmhost.process import Program, Running, start, wait_for_socket
from vmhost.swtpm import VirtualTpm


class Machine:
    """A guest or the gateway. Its programs start in order, each when the one before listens."""

    def __init__(
        self,
        name: str,
        tpm: VirtualTpm,
        root: Path,
        deployment: str,
        measured_argv: Sequence[str],
        event_log: Path,
    ) -> None:
        self.name, self.tpm = name, tpm
        self._root, self._deployment, self._argv, self._event_log = (
            root,
            deployment,
            tuple(measured_argv),
            event_log,
        )
        self.programs: tuple[tuple[Program, Path | None], ...] = ()
        self.running: list[Running] = []
        self._retiring: list[Running] = []  # replaced, and at work still

    def identify(self) -> TpmIdentity:
        """Power the TPM on where it is off, provision it and return its keys."""
        if not self.tpm.alive:
            self.tpm.start()
        with Tpm(self.tpm.tcti) as tpm:
            return tpm.provision()

    def boot(self) -> None:
        """Power the TPM on where it is off, measure, then start the programs; a failure leaves it off. Raises HostError."""
        try:
            if not self.tpm.alive:
                self.tpm.start()
            with Tpm(self.tpm.tcti) as tpm:
                log = measure(tpm, measurements(self._root, self._deployment, self._argv))
            temporary = self._event_log.with_suffix(".new")
            temporary.write_bytes(log)
            temporary.replace(self._event_log)
            self._start_programs()
        except BaseException:
            self.power_off()  # a TPM that was extended must not be measured into again
            raise

    def start_programs(self) -> None:
        """Start the programs, of a machine that is off all of it; a failure stops those already started."""
        if not self.tpm.alive:
            self.boot()
            return
        self._start_programs()

    def _start_programs(self) -> None:
        try:
            for program, socket in self.programs:
                if socket is not None:
                    socket.unlink(missing_ok=True)
                running = start(program)
                self.running.append(running)
                if socket is not None and not wait_for_socket(socket, running):
                    raise HostError("start-failed", f"{program.name} did not come up; see {program.log}")
        except BaseException:
            self.stop_programs()  # those that run would pass for all of them
            raise

    def stop_programs(self) -> None:
        """End the programs, last first, also when one can't be ended; the TPM stays on."""
        try:
            with ExitStack() as ending:
                for running in (*self.running, *self._retiring):
                    ending.callback(running.stop)
        finally:
            self.running = [one for one in self.running if one.alive]
            self._retiring = [one for one in self._retiring if one.alive]

    def power_off(self) -> None:
        """End everything, the TPM included: its PCRs are gone."""
        try:
            self.stop_programs()
        finally:
            self.tpm.stop()

    def pids(self) -> dict[str, int]:
        """Return what runs, by name."""
        return {one.program.name: one.process.pid for one in self.running if one.alive}

    @property
    def alive(self) -> bool:
        """Tell whether every program runs on which the machine depends."""
        return bool(self.running) and all(one.alive or one.program.alone for one in self.running)

    @property
    def has_fallen(self) -> bool:
        """Tell whether a program that is started again by itself has died."""
        return any(one.program.alone and not one.alive for one in self.running)

    def replace(self, name: str) -> None:
        """Start a program that dies alone once more; the former one ends by itself. Raises HostError."""
        self._retiring = [one for one in self._retiring if one.alive]
        for at, one in enumerate(self.running):
            if one.program.name == name and one.program.alone:
                self._retiring.append(one)
                self.running[at] = start(one.program)
                return
        raise HostError("not-running", f"{self.name} runs no {name} that could be replaced")

    def end(self, pid: int) -> None:
        """Kill a program that dies alone, and what it has started; raises HostError."""
        for one in (*self.running, *self._retiring):
            if one.program.alone and one.process.pid == pid and one.alive:
                os.killpg(pid, signal.SIGKILL)  # a session of its own; a child not waited for keeps its pid
                return
        raise HostError(
            "not-running", f"{self.name} runs no program with pid {pid} that could be ended alone"
        )

    def revive(self) -> None:
        """Start again the programs that died alone."""
        for at, one in enumerate(self.running):  # one that can't be started costs those before it nothing
            if one.program.alone and not one.alive:
                self.running[at] = start(one.program)
