"""`quotegate-host golden`: sign the firmware that a lab's virtual machines start from."""

import argparse
import time
from pathlib import Path

from vmhost.errors import HostError
from vmhost.lab.vms import golden_dir
from vmhost.names import Lab
from vmhost.signing_key import end_of, load_signing_key
from vmhost.spec import VALID_DAYS
from vmhost.vm.golden import sign_golden


def declare(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the words."""
    about = "the firmware that virtual machines start from"
    verbs = commands.add_parser("golden", help=about, description=about).add_subparsers(
        dest="verb", required=True, metavar="VERB"
    )
    text = "take a firmware for good: each start restores it where it differs, until the days are over"
    one = verbs.add_parser("sign", help=text, description=text)
    one.add_argument(
        "firmware", type=Path, help="from the distribution's package: /usr/share/OVMF/OVMF_CODE.fd"
    )
    one.add_argument("--lab", default="lab", help="which lab (default: lab)")
    one.add_argument("--key", type=Path, help="the administrator's key file (default: the lab's)")
    one.add_argument(
        "--days", type=int, default=VALID_DAYS, help=f"how long it is good (default: {VALID_DAYS})"
    )
    one.add_argument("--version", type=int, default=1, help="what evidence calls it (default: 1)")
    one.set_defaults(run=sign)


def sign(arguments: argparse.Namespace) -> int:
    """Sign it, and say what was signed."""
    lab = Lab(arguments.lab)
    until = end_of(arguments.days, time.time())
    key, directory = load_signing_key(arguments.key or lab.administrator_key), golden_dir(lab)
    try:
        digest = sign_golden(arguments.firmware, directory, arguments.version, until, key)
    except OSError as error:
        raise HostError(
            "not-signed", f"{directory}: writing the golden copy: {error}; free space there"
        ) from error
    print(f"{digest}  version {arguments.version}, for {arguments.days} days: {directory}")  # noqa: T201 - the command's answer
    return 0
