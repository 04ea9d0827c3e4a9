"""Give a lab code of its own: a copy that the services may read and nobody changes while the lab runs."""

import compileall
import shutil
from pathlib import Path

from vmhost.measured_boot import PACKAGES

# The environment is too large to copy: the monitor's own mount namespace shows it beside the code. That
# mount vanishes with the monitor and its children. Read-only: nothing that runs in the lab may change it.
MOUNT_ENVIRONMENT = 'mount --bind "$1" "$2" && mount -o remount,bind,ro "$2" && shift 2 && exec "$@"'
ENVIRONMENT = ".venv"


def copy_code(project: Path, target: Path) -> None:
    """Copy the packages into `target`, with compiled files made from the copy and an empty place for the mount.

    Compiled files of the project are left behind: they are not measured, so they must not run.
    """
    for package in PACKAGES:
        shutil.copytree(project / package, target / package, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(target / package, quiet=1)
    (target / ENVIRONMENT).mkdir()
    for path in (target, *target.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
