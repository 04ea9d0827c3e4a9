"""`make bench-vm`: what real virtual machines cost beside the same machines without us."""

import argparse
import asyncio
import contextlib
import hashlib
import io
import json
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from authn.signing import key_id
from bench.stats import Figure
from bench.vm_bed import IMAGES, PLAIN, VmBed, image_sizes, vm_bed
from bench.vm_images import plain_disk, plain_gateway, plain_guest
from gateway.cli.image import build
from gateway.cli.vm import RUN_FOREIGN
from vmhost.lab.provisioning import load_administrator_key
from vmhost.lab.vms import golden_dir
from vmhost.names import GATEWAY
from vmhost.vm.files import opened_files
from vmhost.vm.golden import check_firmware

GUEST_SHELL = "quotegate guest: up"
PER_MB = 20.0
USED_OF_ALL = "free -m | awk '/Mem/ {print $3, $2}'"
TOOK = "power-on includes measuring and starting QEMU"


def measure_gateway(rounds: int) -> list[Figure]:
    """Boot the gateway without and with us, in turns; about 45 s a round."""
    return asyncio.run(_gateway(rounds))


async def _gateway(rounds: int) -> list[Figure]:
    plain = plain_disk(plain_gateway, IMAGES / "gateway.efi", PLAIN / "gateway.img")
    bare, whole, idle, total, sealing = [], [], [], [], []
    async with vm_bed() as bed:
        for _ in range(rounds):
            used, there = (await asyncio.to_thread(bed.inside, GATEWAY, USED_OF_ALL)).split()
            idle.append(float(used))
            total.append(float(there))
            await asyncio.to_thread(bed.gateway.power_off)
            bed.insert(GATEWAY, plain)
            began = time.monotonic()
            await bed.gateway.domain.start()
            bare.append(await bed.shell(GATEWAY) - began)
            await bed.gateway.domain.stop()
            bed.insert(GATEWAY)
            began = time.monotonic()
            await asyncio.to_thread(bed.gateway.boot)
            await bed.all_trusted()
            whole.append(await asyncio.to_thread(bed.first_trusted) - began)
            sealing.append(await asyncio.to_thread(_seal, bed, GATEWAY))
    share = [one.seconds for one in sealing]
    return [
        Figure("gateway: power-on to first peer trusted / same root without us", "x", whole, "power-on to a shell, s", bare, 1.3, False, True, TOOK),
        Figure("gateway: memory in use, all peers trusted", "MiB", idle, "all that the machine has, MiB", total, 256, False, False),
        *_sealing("gateway", sealing),
        Figure("gateway: measuring / power-on to first peer trusted", "x", share, "power-on to first peer trusted, s", whole, 0.03, False, True),
    ]  # fmt: skip


def measure_guest(rounds: int) -> list[Figure]:
    """Boot a guest without and with its agent, and have it fail; about 60 s a round."""
    return asyncio.run(_guest(rounds))


async def _guest(rounds: int) -> list[Figure]:
    plain = plain_disk(plain_guest, IMAGES / "guest.efi", PLAIN / "guest.img")
    bare, restarted, leased, healed, sealing = [], [], [], [], []
    async with vm_bed() as bed:
        for _ in range(rounds):
            bed.insert("web", plain)
            await _restart(bed)
            up = await bed.says("web", GUEST_SHELL)
            bare.append(up - bed.monitor.off)
            restarted.append(up - bed.monitor.began)
            bed.insert("web")
            await _restart(bed)
            await bed.says("web", GUEST_SHELL)
            reply = asyncio.create_task(bed.echo_reply("web"))
            ping = f"ping -i 0.1 {bed.monitor.spec.machine('db').ip} >/dev/null 2>&1 &"
            await asyncio.to_thread(bed.inside, "web", ping)
            leased.append(await reply - bed.monitor.off)
            await bed.all_trusted()
            healed.append(await _fail(bed))
            sealing.append(await asyncio.to_thread(_seal, bed, "web"))
    return [
        Figure("guest: power-on to lease granted / without agent to its shell", "x", leased, "power-on to a shell, s", bare, 1.25, False, True, TOOK),
        Figure("guest: failed to trusted again / bare restart", "x", healed, "restart to a shell, s", restarted, 1.25, False, True),
        *_sealing("guest", sealing),
        Figure("guest: measuring / power-on to its shell", "x", [one.seconds for one in sealing], "power-on to a shell, s", bare, 0.03, False, True),
    ]  # fmt: skip


async def _restart(bed: VmBed) -> None:
    """Restart web at an operator's word: the gateway waits for it and does nothing meanwhile."""
    await asyncio.to_thread(bed.api.post, "/v1/peers/web/restart")


async def _fail(bed: VmBed) -> float:
    """Run a foreign program in web; return how long it took from being cut to being trusted again."""
    began = bed.monitor.began
    await asyncio.to_thread(bed.inside, "web", RUN_FOREIGN)
    cut = await bed.until(lambda: bed.states()["web"] != "trusted", 0.1)
    await bed.until(lambda: bed.monitor.began != began)
    return await bed.until(lambda: bed.states()["web"] == "trusted", 0.1) - cut


@dataclass(frozen=True, slots=True)
class Sealing:
    """How long it took to measure a machine's files, and only to hash them; their size in MB."""

    seconds: float
    hashing: float
    size: float


def _seal(bed: VmBed, name: str) -> Sealing:
    """Measure a machine's files as a start does, and hash the same bytes with nothing around it."""
    spec, lab = bed.domain(name).spec, bed.monitor.lab
    administrator = load_administrator_key(lab).public_key().public_bytes_raw()
    began = time.perf_counter()
    keys = {key_id(administrator): administrator}
    firmware = check_firmware(spec.firmware_code, golden_dir(lab), keys, time.time())
    with opened_files(spec, firmware.digest):
        measured = time.perf_counter()
    files = [spec.firmware_code, *(one.path for one in spec.disks if one.readonly)]
    bare = time.perf_counter()
    for path in files:
        with path.open("rb") as file:
            hashlib.file_digest(file, "sha256")
    hashing = time.perf_counter() - bare
    return Sealing(measured - began, hashing, sum(one.stat().st_size for one in files) / 1e6)


def _sealing(name: str, taken: list[Sealing]) -> list[Figure]:
    per = [one.seconds * 1000 * PER_MB / one.size for one in taken]
    bare = [one.hashing * 1000 * PER_MB / one.size for one in taken]
    note = f"firmware, kernel, initrd and read-only disks: {taken[0].size:.0f} MB"
    return [Figure(f"{name}: measuring, per 20 MB", "ms", per, "hashing alone, ms", bare, 100, False, False, note)]  # fmt: skip


def measure_sizes(_rounds: int) -> list[Figure]:
    """Look at what was built."""
    sizes = image_sizes()
    uki = [sizes["gateway.efi"]]
    return [
        Figure(
            "gateway: verified root", "MB", [sizes["gateway.root"]], "its UKI, MB", uki, 160, False, False
        ),
        Figure("guest: UKI", "MB", [sizes["guest.efi"]], "the gateway's UKI, MB", uki, 40, False, False),
    ]


def measure_build(_rounds: int) -> list[Figure]:
    """Build images from nothing, once: it says nothing new twice, and takes two minutes."""
    taken = []
    for names in (("guest", "gateway"), ("guest",)):
        with tempfile.TemporaryDirectory() as out:
            began = time.monotonic()
            build(argparse.Namespace(images=names, out=Path(out)))
            taken.append(time.monotonic() - began)
    note = "packages and wheels come from the machine's mirrors"
    return [Figure("both images: build from nothing", "s", taken[:1], "the guest alone, s", taken[1:], 120, False, False, note)]  # fmt: skip


SUITES: dict[str, Callable[[int], list[Figure]]] = {
    "sizes": measure_sizes,
    "gateway": measure_gateway,
    "guest": measure_guest,
    "build": measure_build,
}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the monitor says, unless something goes wrong."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            yield
    except BaseException:
        print(said.getvalue(), file=sys.stderr)
        raise


def _with_earlier(figure: Figure, known: dict[str, dict[str, Any]]) -> Figure:
    """Put the rounds of earlier runs before a figure's own."""
    if figure.name not in known:
        return figure
    measured, baseline = (known[figure.name][part]["rounds"] for part in ("measured", "baseline"))
    return replace(figure, measured=[*measured, *figure.measured], baseline=[*baseline, *figure.baseline])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench.vm", description="Measure real virtual machines beside the same without us."
    )
    parser.add_argument("--only", choices=SUITES, help="run one suite")
    parser.add_argument("--rounds", type=int, default=3, help="boots a figure (default: 3)")
    parser.add_argument("--add", action="store_true", help="add the rounds to those in the JSON")
    parser.add_argument(
        "--json", type=Path, default=Path("bench-vm-results.json"), help="where the JSON goes"
    )
    return parser


def main() -> None:
    """Run the suites; exit 4 when a target is missed. Suites that ran earlier stay in the JSON."""
    arguments = _parser().parse_args()
    if os.geteuid() != 0:
        sys.exit("bench.vm: it starts virtual machines: run it as root")
    machine = f"{os.cpu_count()} cores, kernel {platform.release()}, Python {platform.python_version()}"
    print(f"{machine}; {arguments.rounds} rounds, medians; the machine may be noisy\n", flush=True)
    content = json.loads(arguments.json.read_text()) if arguments.json.exists() else {"figures": []}
    known = {one["name"]: one for one in content["figures"]}
    figures: list[Figure] = []
    for name, measure in SUITES.items():
        if arguments.only in (None, name):
            with _quiet():
                found = measure(arguments.rounds)
            figures += [_with_earlier(one, known) for one in found] if arguments.add else found
            known |= {one.name: one.to_json() for one in figures}
            content = {"machine": machine, "figures": list(known.values())}
            arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    print(*(one.row() for one in figures), sep="\n")
    missed = [one.name for one in figures if one.verdict() == "missed"]
    print(f"\n{len(figures)} figures, {len(missed)} missed; JSON in {arguments.json}")
    sys.exit(4 if missed else 0)


if __name__ == "__main__":
    main()
