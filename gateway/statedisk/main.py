"""Open the appliance's state: `python -m gateway.statedisk.main --device DISK --approval FILE --mount DIRECTORY …`.

Runs once, as root, while the services load; quotegated waits for it. When it fails the machine is switched off:
without its state (authority, quarantines, the audit record) a gateway would forget whom it must not trust.
"""

import argparse
import os
import pwd
import sys
from pathlib import Path

from authn.errors import AuthnError
from authn.sealing import Sealing
from authn.state_policy import Approval
from authn.tpm import Tpm
from gateway.errors import GatewayError
from gateway.statedisk.disk import StateDisk, make_file_system, mount

NAME = "state"


def open_state(disk: StateDisk, approval: Approval, sealing: Sealing) -> Path:
    """Open the disk, or make it the first time; return the device with the file system. Raises GatewayError, AuthnError."""
    if not disk.is_new():
        return disk.open(sealing.unseal(disk.sealed_key(), approval), NAME)
    if sealing.has_signed():
        raise GatewayError(
            "state-missing",
            "the disk holds no state, but this TPM has signed audit records: expected the disk that belongs to it; "
            "bring it back (a gateway whose state is lost for good is made anew, with a new TPM)",
        )
    key, sealed = sealing.make_key(approval)
    disk.make(key)
    device = disk.open(key, NAME)
    make_file_system(device)
    if sealing.unseal(sealed, approval) != key:
        raise GatewayError("not-sealed", "the TPM gave another key back than was sealed; replace the TPM")
    disk.keep(sealed)
    return device


def give(directory: Path, owner: str) -> None:
    """Make sure of the directory that is this user's alone; who waits for the state takes it for the sign that all is open."""
    user = pwd.getpwnam(owner)
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    os.chown(directory, user.pw_uid, user.pw_gid)


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(prog="statedisk", description="Open the gateway's encrypted state.")
    parser.add_argument("--device", type=Path, required=True, help="the disk")
    parser.add_argument("--approval", type=Path, required=True, help="the authority's word for this image")
    parser.add_argument("--mount", type=Path, required=True, help="where to mount it")
    parser.add_argument(
        "--directory", required=True, help="the directory in it that holds the gateway's state"
    )
    parser.add_argument("--owner", required=True, help="the user whose it is")
    parser.add_argument("--tpm", default="device:/dev/tpmrm0", help="the TPM (a TCTI)")
    options = parser.parse_args()
    try:
        approval = Approval.from_json(options.approval.read_text())
        with Tpm(options.tpm) as tpm:
            device = open_state(StateDisk(options.device), approval, Sealing(tpm))
        mount(device, options.mount)
        give(options.mount / options.directory, options.owner)
    except (AuthnError, GatewayError) as error:
        sys.exit(f"quotegate gateway: the state stays closed: {error.code}: {error.message}")
    except (OSError, KeyError, ValueError) as error:
        sys.exit(f"quotegate gateway: the state stays closed: {error}")


if __name__ == "__main__":
    main()
