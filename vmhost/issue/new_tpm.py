"""Make a TPM for a machine whose host is to run swtpm: its state, encrypted, and the key of it."""

import os
import shlex
from pathlib import Path

from authn.tpm import TpmIdentity
from vmhost.durable import write_secret
from vmhost.errors import HostError
from vmhost.process import Rights
from vmhost.vm.identity import identify
from vmhost.vm.vtpm import KEY_SIZE, VtpmSpec

STATE, KEY, LOG = "state", "state.key", "swtpm.log"


def make_tpm(name: str, directory: Path, uid: int) -> TpmIdentity:
    """Make a TPM below a new directory, its state the uid's alone, its key root's; raises HostError, AuthnError, OSError."""
    if os.geteuid() != 0:
        raise HostError(
            "not-root",
            f"{name}: making a TPM: expected root, who can give its state to uid {uid}; run this as root",
        )
    spec = VtpmSpec(
        name, "", directory / STATE, directory / "swtpm.ctrl", directory / LOG, Rights(uid, uid), client_uid=0
    )
    directory.mkdir()
    directory.chmod(0o711)  # its uid passes through, to its own state, whatever the umask is
    key = os.urandom(KEY_SIZE)
    write_secret(directory / KEY, key)
    try:
        return identify(spec, key)
    except HostError as error:
        said = spec.log.read_text(errors="replace").strip()[-400:] if spec.log.exists() else ""
        raise HostError(
            "tpm-failed",
            f"{name}: started a TPM as uid {uid}: expected it to come up, got: {said or error.message}; "
            f"uid {uid} must be able to pass through every directory above {directory.parent.parent}/",
        ) from error
    finally:
        spec.hold_file.unlink(missing_ok=True)
        spec.log.unlink(missing_ok=True)


def start_text(directory: Path) -> str:
    """Write how swtpm is started with it, by the uid that has the state; a pipe keeps the key from the command line."""
    return (
        f"swtpm socket --tpm2 --tpmstate {shlex.quote(f'dir={directory / STATE},mode=0600')} --terminate "
        f"--ctrl type=unixio,path=SOCKET --key fd=3,format=binary,mode=aes-256-cbc 3<{shlex.quote(str(directory / KEY))}"
    )
