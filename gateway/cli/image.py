"""`quotegate image`: build images, compute what they measure, sign that as reference values."""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from authn.pcr import HashAlg
from authn.reference import ReferenceSet
from authn.signing import key_id
from gateway.cli.exits import EXIT_FOUND, EXIT_OK
from gateway.cli.output import say, show_json, table
from gateway.errors import GatewayError
from vmhost.image.references import Image, value_name
from vmhost.lab.setup import PROJECT
from vmhost.names import Lab
from vmhost.signing_key import check_version, end_of, load_signing_key

if TYPE_CHECKING:
    from vmhost.image.build import Built

RECIPES = PROJECT / "appliance-image"


def build(arguments: argparse.Namespace) -> int:
    """Build images from their recipes."""
    began = time.monotonic()
    built = _build(arguments.images, arguments.out)
    say(f"built {', '.join(arguments.images)} in {time.monotonic() - began:.0f} s")
    files = [{"file": one, "bytes": one.stat().st_size} for image in built for one in image.files]
    say(table(files, ("file", "bytes")))
    return EXIT_OK


def _build(names: Sequence[str], out: Path) -> "list[Built]":
    """Build side by side: most of the time other programs work for us, one at a time."""
    from vmhost.image.build import build as build_image
    from vmhost.image.recipe import Recipe

    recipes = [Recipe.load(RECIPES / name) for name in names]
    with ThreadPoolExecutor(len(recipes)) as pool:
        return list(pool.map(lambda recipe: build_image(recipe, PROJECT, out), recipes))


def check(arguments: argparse.Namespace) -> int:
    """Build images a second time and compare, byte by byte."""
    for name in arguments.images:
        Image.load(arguments.out, name)
    with tempfile.TemporaryDirectory() as scratch:
        again = [one for image in _build(arguments.images, Path(scratch)) for one in image.files]
        different = [one.name for one in again if _content(arguments.out / one.name) != one.read_bytes()]
    for name in different:
        say(f"{arguments.out / name}: another build gives other bytes; expected the same")
    if different:
        return EXIT_FOUND
    say(f"{', '.join(arguments.images)}: two builds give the same bytes")
    return EXIT_OK


def _content(path: Path) -> bytes | None:
    return path.read_bytes() if path.is_file() else None


def deb(arguments: argparse.Namespace) -> int:
    """Build the agent's Debian package."""
    from vmhost.image.agent_deb import build_agent_deb

    built = build_agent_deb(PROJECT, arguments.out)
    say(table([{"file": built, "bytes": built.stat().st_size}], ("file", "bytes")))
    return EXIT_OK


def describe(arguments: argparse.Namespace) -> int:
    """Describe a system that was built elsewhere."""
    from vmhost.image.describe import describe as describe_system

    image = describe_system(arguments.image, arguments.root, arguments.uki, arguments.out)
    say(f"{image.manifest}: {len(image.files)} files that can be run")
    say(f"next: quotegate image sign {image.name} --key FILE --version N -o references.json")
    return EXIT_OK


def predict(arguments: argparse.Namespace) -> int:
    """Print the PCRs that an image leads to."""
    from vmhost.image.predict import predict as predict_events

    try:
        untrusted = arguments.uki.read_bytes()
    except OSError as error:
        raise GatewayError(
            "unreadable", f"{arguments.uki}: {error.strerror}; expected a unified kernel image"
        ) from error
    events = predict_events(untrusted)
    found = ReferenceSet(0, 0, {value_name("image", pcr): one for pcr, one in events.items()})
    values = {pcr: found.value(value_name("image", pcr), HashAlg.SHA256) or b"" for pcr in events}
    if arguments.json:
        described = {
            pcr: {
                "value": values[pcr].hex(),
                "events": [[one.description, one.digest.hex()] for one in listed],
            }
            for pcr, listed in events.items()
        }
        show_json(described)
        return EXIT_OK
    rows = [
        {
            "pcr": pcr,
            "sha256": values[pcr].hex(),
            "of": ", ".join(one.description for one in events[pcr]) or "nothing",
        }
        for pcr in sorted(values)
    ]
    say(table(rows, ("pcr", "sha256", "of")))
    return EXIT_OK


def sign(arguments: argparse.Namespace) -> int:
    """Write the signed reference set of an image."""
    image = Image.load(arguments.out, arguments.image)
    key = load_signing_key(arguments.key)
    check_version(arguments.version)
    not_after = end_of(arguments.days, time.time())
    document = ReferenceSet(arguments.version, not_after, image.values()).sign(key)
    try:
        arguments.output.write_bytes(document)
    except OSError as error:
        raise GatewayError(
            "unwritable", f"{arguments.output}: {error.strerror}; name a file with room for it: -o FILE"
        ) from error
    public = key.public_key().public_bytes_raw()
    said = {
        "file": str(arguments.output),
        "key": key_id(public),
        "public": public.hex(),
        "version": arguments.version,
    }
    say(json.dumps(said) if arguments.json else table([said], ("file", "version", "key", "public")))
    return EXIT_OK


def bundle(arguments: argparse.Namespace) -> int:
    """Write a signed update of the gateway's image."""
    from vmhost.lab.provisioning import load_authority_key
    from vmhost.update.bundle import write_bundle

    lab = Lab(arguments.lab)
    image, authority = Image.load(arguments.out, arguments.image), arguments.authority or lab.authority_key
    key = load_signing_key(arguments.key or lab.administrator_key)
    not_after = end_of(arguments.days, time.time())
    try:
        made = write_bundle(
            image, arguments.output, arguments.version, not_after, key, load_authority_key(authority)
        )
    except ValueError as error:
        raise GatewayError(
            "bad-key", f"{authority}: expected a file with 64 hex digits (a P-256 key), got: {error}"
        ) from error
    except OSError as error:
        raise GatewayError("unwritable", f"{arguments.output}: {error}; name a new directory") from error
    files = {name: facts.size for name, facts in made.manifest.files.items()}
    said = {"directory": str(made.directory), "version": made.version, "files": files}
    show_json(said) if arguments.json else say(
        f"{made.directory}: version {made.version}; next: quotegate update check"
    )
    return EXIT_OK
