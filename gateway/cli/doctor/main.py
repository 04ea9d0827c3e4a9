"""`quotegate doctor`: examine everything, print what was found; exit 4 when something is bad."""

import argparse
import dataclasses
import shutil
import time
from collections.abc import Iterator
from typing import Any

from gateway.cli.client import ApiClient, ApiError, api_socket
from gateway.cli.command import of_lab
from gateway.cli.doctor import certificates, clock, disk, kernel, tpm
from gateway.cli.doctor.finding import Finding, Verdict, skipped
from gateway.cli.exits import EXIT_FOUND, EXIT_OK
from gateway.cli.output import say, show_json
from vmhost.lab.provisioning import LabPaths
from vmhost.lab.vms import golden_dir
from vmhost.monitor.client import way_up
from vmhost.names import Lab
from vmhost.vm.golden import DOCUMENT


def doctor(arguments: argparse.Namespace) -> int:
    """Examine this machine, and the lab when it is up."""
    findings = list(examine(Lab(arguments.lab)))
    if arguments.json:
        show_json([dataclasses.asdict(one) for one in findings])
    else:
        for one in findings:
            say(f"{one.verdict:<11}  {one.check}: {one.found}")
            if one.mend:
                say(f"{'':<11}  -> {one.mend}")
        counts = {verdict: sum(one.verdict is verdict for one in findings) for verdict in Verdict}
        say("; ".join(f"{count} {verdict}" for verdict, count in counts.items()))
    return EXIT_FOUND if any(one.verdict is Verdict.BAD for one in findings) else EXIT_OK


def examine(lab: Lab) -> Iterator[Finding]:
    """Yield every finding, in the order in which faults cause each other."""
    api = _Gateway(ApiClient(api_socket(lab.name)))
    yield from kernel.judge_kernel(kernel.probe_kernel())
    yield tpm.judge_trial(tpm.try_software_tpm() if shutil.which("swtpm") else None)
    yield from clock.judge_clock(clock.probe_clock(api.last_record()))
    yield from disk.judge_disk(disk.probe_disk(lab.state_dir))
    paths = LabPaths(lab)
    if paths.shared.exists():
        for one in certificates.read_validities(
            paths.shared, lab.run_dir / "peers", golden_dir(lab) / DOCUMENT
        ):
            yield certificates.judge_validity(one, time.time())
    else:
        yield skipped("certificates", f"no lab named {lab.name} is up", way_up(lab))
    yield tpm.judge_gateway(api.health(), way_up(lab))
    for peer in api.ask("/v1/peers", {}).get("peers", []):
        yield tpm.judge_peer(peer, of_lab(lab.name))
    yield certificates.judge_authority(api.ask("/v1/authority", {}).get("state"), of_lab(lab.name))


class _Gateway:
    """A gateway that may be away."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def ask(self, path: str, otherwise: dict[str, Any]) -> dict[str, Any]:
        """Return its answer, or `otherwise`."""
        try:
            return self._api.get(path)
        except ApiError:
            return otherwise

    def health(self) -> str | None:
        """Return what its own parts lack, empty when nothing; None when it is away."""
        try:
            self._api.get("/v1/health")
        except ApiError as error:
            return None if error.code == "away" else error.message
        return ""

    def last_record(self) -> float | None:
        """Return when (s since the epoch) the newest record was made."""
        newest = self.ask("/v1/status", {}).get("audit", {}).get("sequence", 0)
        events = self.ask(f"/v1/events?after={newest - 1}", {}).get("events", []) if newest else []
        return events[-1]["time"] / 1000 if events else None
