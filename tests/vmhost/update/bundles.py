"""Updates around an image of a few bytes."""

import os
import shutil
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.signing import key_id
from tests.vmhost.image.programs import small_uki
from vmhost.image.approve import public_hex
from vmhost.image.esp import make_esp
from vmhost.image.references import Image
from vmhost.names import GATEWAY
from vmhost.update.bundle import Bundle, InForce, write_bundle

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
PUBLIC = KEY.public_key().public_bytes_raw()
KEYS = {key_id(PUBLIC): PUBLIC}
AUTHORITY = ec.derive_private_key(7, ec.SECP256R1())
NOW, LATER = 1000.0, 2000.0
IN_FORCE = InForce(1, 1, KEYS, public_hex(AUTHORITY.public_key()))


def small_image(directory: Path, name: str = GATEWAY, command_line: str = "quiet") -> Image:
    """What a build leaves: boot disk and root."""
    directory.mkdir(exist_ok=True)
    disk = directory / f"{name}.img"
    make_esp(small_uki(command_line), disk)
    disk.with_suffix(".root").write_bytes(b"a root" * 1000)
    return Image(name, directory / f"{name}.efi", disk, directory / f"{name}.json", {})


def small_update(directory: Path, version: int = 2, *, image: Image | None = None) -> Bundle:
    """A good update."""
    image = image or small_image(directory / "image")
    return write_bundle(image, directory / f"update-{version}", version, LATER, KEY, AUTHORITY)


def copy_of(bundle: Bundle, target: Path) -> Path:
    """A copy to spoil, by `put` alone: it shares its files with the original."""
    shutil.copytree(bundle.directory, target, copy_function=os.link)
    return target


def put(path: Path, content: bytes) -> None:
    """Put another file in the place of one."""
    path.unlink()
    path.write_bytes(content)
