"""Keep what a lab of virtual machines is started with again: its description, and the documents it was given.

They lie with the machines' state, which outlives monitor and host; the run directory does not. They are there whole or not
at all: without them nothing has run yet that is worth keeping.
"""

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

from authn.portmap import PortEntry
from vmhost.durable import sync_directory, sync_file, write_durably
from vmhost.errors import HostError
from vmhost.lab.provisioning import LabPaths
from vmhost.names import Lab
from vmhost.process import MAX_LOG
from vmhost.regular import open_regular
from vmhost.spec import LabSpec


def spec_file(directory: Path) -> Path:
    """Return where a directory of a lab has its description."""
    return directory / "spec.json"


def write_spec(path: Path, spec: LabSpec) -> None:
    """Write a lab's description, on the disk when this returns; raises OSError."""
    data = {
        **{name: getattr(spec, name) for name in _AS_IT_IS},
        "lab": spec.lab.name,
        "network": str(spec.network),
        "peers": [_entry(one) for one in spec.peers],
        "gateway": _entry(spec.gateway),
        "images": str(spec.images) if spec.images else None,
    }
    write_durably(path, json.dumps(data).encode())


def load_spec(path: Path) -> LabSpec:
    """Read what `write_spec` wrote, or one of before: what it does not know has its default.

    Raises OSError, ValueError, KeyError, TypeError.
    """
    data: Mapping[str, Any] = json.loads(path.read_text())
    return LabSpec(
        lab=Lab(data["lab"]),
        network=IPv4Network(data["network"]),
        peers=tuple(PortEntry.from_json(one) for one in data["peers"]),
        gateway=PortEntry.from_json(data["gateway"]),
        images=Path(data["images"]) if data.get("images") else None,
        **{name: data[name] for name in _AS_IT_IS if name in data},
    )


_AS_IT_IS = (
    "policy_text",
    "control_port",
    "beacon_interval_ms",
    "preapproved",
    "gateway_vm",
    "inspectors",
    "return_within_s",
    "valid_days",
)


def _entry(one: PortEntry) -> dict[str, object]:
    return {**asdict(one), "ip": str(one.ip)}


def is_kept(lab: Lab) -> bool:
    """Tell whether there is such state."""
    return lab.kept_dir.is_dir()


def keep(spec: LabSpec) -> None:
    """Keep a lab's description and what it was given, on the disk when this returns; raises OSError."""
    lab, paths = spec.lab, LabPaths(spec.lab)
    target = lab.kept_dir.with_suffix(".new")
    target.mkdir(mode=0o700)
    write_spec(spec_file(target), spec)
    for source in (paths.gateway_setup, paths.shared, *_documents_of_peers(lab)):
        copy = target / source.relative_to(lab.run_dir)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    for one in (target, *target.rglob("*")):
        sync_directory(one) if one.is_dir() else sync_file(one)
    target.rename(lab.kept_dir)
    sync_directory(lab.state_dir)


def kept_copy(lab: Lab, path: Path) -> Path:
    """Return where something of a lab's run directory is kept."""
    return lab.kept_dir / path.relative_to(lab.run_dir)


def kept_spec(lab: Lab) -> LabSpec:
    """Read the description of the lab that is kept; raises HostError `no-state`, `bad-state`."""
    path = spec_file(lab.kept_dir)
    if not is_kept(lab):
        raise HostError(
            "no-state",
            f"{lab.kept_dir} is missing: of lab {lab.name} no virtual gateway's state is left to start with; a new one, "
            f"which deletes whatever else the lab has: quotegate lab up --vm --discard --lab {lab.name}",
        )
    try:
        spec = load_spec(path)
        if spec.lab != lab:
            raise ValueError(f"expected the lab {lab.name}, got {spec.lab.name}")
        return spec
    except (HostError, OSError, ValueError, KeyError, TypeError) as error:
        raise HostError(
            "bad-state",
            f"{path}: reading the lab's description: {error!r}; nothing was started: restore this file",
        ) from error


def put_back(lab: Lab) -> None:
    """Put what was kept where the lab had it, for its services to read; raises OSError."""
    for one in lab.kept_dir.rglob("*"):
        if one.is_file():
            target = lab.run_dir / one.relative_to(lab.kept_dir)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(one, target)


def noted_off(lab: Lab) -> dict[str, str]:
    """Return which machines were switched off to stay off, each with the reason; raises HostError `bad-state`."""
    path = _off_file(lab)
    try:
        noted = json.loads(path.read_text())
        return {str(name): str(why) for name, why in noted.items()}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as error:
        raise HostError(
            "bad-state",
            f"{path}: reading which machines stay off: {error!r}; nothing was started: restore this file, or remove it to "
            "have all of them started",
        ) from error


def note_off(lab: Lab, off: Mapping[str, str]) -> None:
    """Write that down where the lab's state is kept; raises OSError."""
    if is_kept(lab):
        write_durably(_off_file(lab), json.dumps(dict(off)).encode())


def _off_file(lab: Lab) -> Path:
    return lab.state_dir / "kept_off.json"


def last_words(lab: Lab) -> Path:
    """Return where the logs are of the monitor that ended before the lab was started again."""
    return lab.state_dir / "log.before"


def keep_last_words(lab: Lab) -> None:
    """Put the logs of a monitor that died where they outlive the run directory, in the place of an earlier one's."""
    if not lab.monitor_log.exists():
        return
    target = last_words(lab)
    shutil.rmtree(target, ignore_errors=True)
    with contextlib.suppress(OSError):  # a full disk is no reason not to start
        target.mkdir(mode=0o700)
        for one in (lab.run_dir / "log").iterdir():
            _copy_end(one, target / one.name)
        for one in lab.run_dir.glob("vms/*/console.*"):
            _copy_end(one, target / f"{one.parent.name}-{one.name}")


def _copy_end(source: Path, target: Path) -> None:
    with contextlib.suppress(OSError), open_regular(source) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - MAX_LOG))
        target.write_bytes(file.read(MAX_LOG))


def _documents_of_peers(lab: Lab) -> list[Path]:
    return [one for one in sorted((lab.run_dir / "peers").glob("*/*")) if one.is_file()]
