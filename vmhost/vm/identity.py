"""Make a VM's TPM and learn its keys before the VM ever starts: they go into certificates and setup files."""

import os

from authn.tpm import Tpm, TpmIdentity
from vmhost.errors import HostError
from vmhost.process import Program, start, wait_for_socket
from vmhost.vm.hold import held
from vmhost.vm.vtpm import VtpmSpec, key_pipe, own_state


def identify(spec: VtpmSpec, key: bytes) -> TpmIdentity:
    """Power a TPM on without its VM, provision it, and power it off; raises HostError, AuthnError."""
    with held(spec.hold_file) as mark:
        return _identify(spec, key, mark)


def _identify(spec: VtpmSpec, key: bytes, mark: int) -> TpmIdentity:
    own_state(spec)
    sockets = spec.state_dir / "sockets"
    sockets.mkdir(mode=0o700, exist_ok=True)  # one that was killed left it
    if sockets.is_symlink():  # the state is its uid's own
        raise HostError("tpm-failed", f"{sockets}: expected a directory, got a link; remove it")
    server, control = (
        sockets / "tpm",
        sockets / "tpm.ctrl",
    )  # the names that tpm2-tss' swtpm transport expects
    try:
        os.chown(sockets, spec.rights.uid, spec.rights.gid, follow_symlinks=False)
        with key_pipe(key) as key_fd:
            argv = (
                "swtpm", "socket", "--tpm2", "--tpmstate", f"dir={spec.state_dir},mode=0600",
                "--server", f"type=unixio,path={server}", "--ctrl", f"type=unixio,path={control}",
                "--key", f"fd={key_fd},format=binary,mode=aes-256-cbc", "--flags", "not-need-init,startup-clear",
            )  # fmt: skip
            program = Program(
                f"swtpm-{spec.name}", argv, spec.namespace, spec.rights, spec.log, inherited=(key_fd, mark)
            )
            running = start(program)
        try:
            if not all(wait_for_socket(one, running) for one in (server, control)):
                raise HostError("tpm-failed", f"the TPM of {spec.name} did not come up; see {spec.log}")
            with Tpm(f"swtpm:path={server}") as tpm:
                return tpm.provision()
        finally:
            running.stop()
    finally:
        for path in (server, control):
            path.unlink(missing_ok=True)
        sockets.rmdir()
