"""The words about machines: images, updates, guests of one's own, labs."""

import argparse
from pathlib import Path

from gateway.cli.command import Group, add, group

IMAGES = Path(__file__).parents[2] / "build" / "image"


def add_machines(commands: "Group[argparse.ArgumentParser]") -> None:
    """Declare them."""
    add(commands, "doctor", "doctor.main.doctor", "examine this machine and say how to mend it")
    _add_update(group(commands, "update", "the image that the gateway runs"))
    _add_image(group(commands, "image", "images of virtual machines, and what they measure"))
    _add_guest(group(commands, "guest", "machines of your own behind the gateway"))
    _add_lab(group(commands, "lab", "the platform on one machine, namespaces or virtual machines as guests"))


def _add_update(update: "Group[argparse.ArgumentParser]") -> None:
    check = add(update, "check", "update.check", "check an update against what is in force")
    apply = add(update, "apply", "update.apply", "try an update; it falls back by itself")
    rollback = add(update, "rollback", "update.rollback", "try the image that was in force before")
    for command in (check, apply):
        command.add_argument("directory", type=Path, help="what `quotegate image bundle` wrote")
    for command in (apply, rollback):
        command.add_argument("--tries", type=int, default=2, help="before it falls back (default: 2)")
        command.add_argument(
            "--within",
            metavar="TIME",
            default="4m",
            help="how long a try may take, self-test included (default: 4m)",
        )
    add(update, "status", "update.status", "show both slots")
    add(
        update,
        "commit",
        "update.commit",
        "let the TPM open the state to no older image: no way back",
    )


def _add_image(image: "Group[argparse.ArgumentParser]") -> None:
    build = add(image, "build", "image.build", "build images from their recipes", lab=False, json=False)
    check = add(image, "check", "image.check", "build images once more and compare", lab=False, json=False)
    sign = add(image, "sign", "image.sign", "write an image's signed reference set", lab=False)
    bundle = add(image, "bundle", "image.bundle", "write a signed update of the gateway's image")
    for command in (build, check):
        command.add_argument(
            "images", nargs="+", metavar="IMAGE", help="a recipe below appliance-image, as guest"
        )
    for command in (sign, bundle):
        command.add_argument("image", help="the image's name, for example guest")
    for command in (build, check, sign, bundle):
        command.add_argument(
            "--out", type=Path, default=IMAGES, help="where images are (default: build/image)"
        )
    sign.add_argument("--key", type=Path, required=True, help="the signing key: a file with 64 hex digits")
    sign.add_argument("--version", type=int, required=True, help="of the reference set: higher is newer")
    sign.add_argument("--days", type=float, default=90.0, help="how long it is valid (default: 90)")
    sign.add_argument("-o", "--output", type=Path, required=True, help="the reference set to write")
    deb = add(
        image,
        "deb",
        "image.deb",
        "build the agent's Debian package, for your own guests",
        lab=False,
        json=False,
    )
    deb.add_argument("--out", type=Path, default=IMAGES.parent, help="where it goes (default: build)")
    describe = add(
        image,
        "describe",
        "image.describe",
        "describe a guest of your own, to be signed",
        lab=False,
        json=False,
    )
    describe.add_argument("image", help="what to call it")
    describe.add_argument("--uki", type=Path, required=True, help="the unified kernel image that it boots")
    describe.add_argument("--root", type=Path, required=True, help="where its root file system is mounted")
    describe.add_argument("--out", type=Path, default=IMAGES, help="where images are (default: build/image)")
    bundle.add_argument("--key", type=Path, help="the administrator's key file (default: the lab's)")
    bundle.add_argument(
        "--authority",
        type=Path,
        help="the key that approves images to the TPM: 64 hex digits (default: the lab's)",
    )
    bundle.add_argument("--version", type=int, required=True, help="of the image: higher is newer")
    bundle.add_argument("--days", type=float, default=90.0, help="how long it may be applied (default: 90)")
    bundle.add_argument("-o", "--output", type=Path, required=True, help="the directory to make")
    predict = add(image, "predict", "image.predict", "compute the PCRs that an image leads to", lab=False)
    predict.add_argument("uki", type=Path, help="a unified kernel image")


def _add_guest(guest: "Group[argparse.ArgumentParser]") -> None:
    authority = add(
        guest, "authority", "guest.authority", "make the authority that vouches for them", lab=False
    )
    authority.add_argument("directory", type=Path, help="where it is kept; a new one, root's alone")
    authority.add_argument(
        "--name",
        default="Quotegate guests TPM CA",
        help="what its CA is called (default: Quotegate guests TPM CA)",
    )
    authority.add_argument("--days", type=int, default=3650, help="how long the CA is valid (default: 3650)")
    issue = add(guest, "issue", "guest.issue_guest", "issue what one machine, its gateway and its host need")
    issue.add_argument("name", help="what the gateway calls it")
    issue.add_argument("--ip", required=True, help="its address, pinned")
    issue.add_argument(
        "--port", required=True, help="its interface at the host's bridge, for example its tap"
    )
    issue.add_argument("--mac", help="pinned as well (default: one made from the address)")
    issue.add_argument("--uuid", help="the machine's (default: a fresh one)")
    issue.add_argument("--image", required=True, help="what it runs, as `quotegate image describe` was told")
    issue.add_argument(
        "--references",
        type=Path,
        metavar="FILE",
        help="the image's signed reference set, where the gateway has none with it yet",
    )
    tpm = issue.add_mutually_exclusive_group(required=True)
    tpm.add_argument(
        "--ek",
        type=Path,
        metavar="FILE",
        help="its TPM's endorsement key: what `quotegate-agent identity` prints in it",
    )
    tpm.add_argument(
        "--new-tpm", type=int, metavar="UID", help="make a TPM for it, for a swtpm that runs as this uid"
    )
    issue.add_argument(
        "--again",
        action="store_true",
        help="for a machine that the gateway's map has: it moved, or its time is up",
    )
    issue.add_argument(
        "--authority", type=Path, required=True, metavar="DIRECTORY", help="who vouches for it"
    )
    issue.add_argument(
        "--setup", type=Path, metavar="FILE", help="the gateway's setup file (default: the lab's)"
    )
    issue.add_argument("--bridge", default="br0", help="the host's bridge (default: br0)")
    issue.add_argument(
        "--gateway-port", default="gateway0", help="the gateway's interface there (default: gateway0)"
    )
    issue.add_argument(
        "--days", type=int, default=365, help="how long certificate and map are valid (default: 365)"
    )
    issue.add_argument(
        "--out", type=Path, required=True, metavar="DIRECTORY", help="a new directory to write to"
    )


def _add_lab(lab: "Group[argparse.ArgumentParser]") -> None:
    up = add(
        lab,
        "up",
        "lab.up",
        "bring the lab up; what is left of an earlier one of the same name is cleared first, but not virtual machines' state",
        json=False,
    )
    up.add_argument(
        "--discard",
        action="store_true",
        help="end this lab where it runs, and delete the state that its virtual machines left",
    )
    up.add_argument("--peers", type=int, default=3, help="how many peers without --policy (default: 3)")
    up.add_argument("--days", type=int, default=30, help="how long what is signed for it holds (default: 30)")
    up.add_argument("--policy", type=Path, help="a policy; its peers become the lab's")
    up.add_argument(
        "--ask-approval", action="store_true", help="let every TPM wait for: quotegate peer approve NAME"
    )
    up.add_argument(
        "--inspectors",
        type=int,
        choices=range(1, 9),
        default=1,
        help="inspectors of content side by side (default: 1); a gateway's VM gets a processor more than that",
    )
    up.add_argument(
        "--vm", action="store_true", help="let the guests be virtual machines: quotegate image build guest"
    )
    up.add_argument(
        "--gateway",
        choices=("vm", "namespace"),
        default="vm",
        help="with --vm: what the gateway is (default: vm)",
    )
    down = add(lab, "down", "lab.down", "take the lab down, and delete its state", json=False)
    down.add_argument(
        "--keep", action="store_true", help="keep virtual machines' state, for: quotegate lab resume"
    )
    again = (
        "start a lab's virtual machines again with the state they left: after the host's restart, or --keep"
    )
    resume = add(lab, "resume", "lab.resume", again, json=False)
    resume.add_argument(
        "--days", type=int, help="sign anew what is signed for it, to hold that long from now; 1 to 3650"
    )
    add(lab, "status", "lab.lab_status", "show machines and processes")
    tamper = add(
        lab, "tamper", "lab.tamper", "change a peer behind its back: PCR 10, or what a VM runs", json=False
    )
    tamper.add_argument("peer")
    tamper.add_argument(
        "--with", dest="what",
        choices=("program", "kernel", "initrd", "command-line", "debug-shell", "agent", "boot-options", "boot", "firmware", "root"),
        help="of a VM: run a foreign program (default), or alter what it starts from (root: the gateway's)",
    )  # fmt: skip
    replace = "start a fresh inspector; the former ends with its last connection"
    add(lab, "replace-inspector", "lab.replace_inspector", replace, json=False)
    execute = add(lab, "exec", "lab.exec_in", "run a command in a peer", json=False)
    execute.add_argument("peer")
    execute.add_argument("argv", nargs=argparse.REMAINDER, help="-- COMMAND …")
    demo = add(
        lab,
        "demo",
        "demo.main.demo",
        "run the main job, step by step, in a lab of its own",
        lab=False,
        json=False,
    )
    demo.add_argument("--seed", type=int, help="repeat an earlier run")
    demo.add_argument("--vm", action="store_true", help="with virtual machines, which boot the built images")
    for command in (up, demo):
        command.add_argument(
            "--images",
            type=Path,
            default=IMAGES,
            help="where the images are (default: build/image)",
        )
