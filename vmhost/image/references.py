"""Turn a built image into reference values, and say what a quote of a machine that runs it must prove."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from authn.ima import IMA_PCR
from authn.pcr import HashAlg
from authn.profile import IMA_PREFIX, Profile
from authn.reference import ReferenceEvent, ReferenceSet
from vmhost.errors import HostError
from vmhost.image.predict import Events, predict

PCRS = (2, 3, 4, 7, 9, 11, 12)
_NAME = re.compile(r"[a-z][a-z0-9-]{0,31}")  # a policy's profile is called so


@dataclass(frozen=True, slots=True)
class Image:
    """A built image: its program, the disk that boots it, and the files in it that can be run."""

    name: str
    uki: Path
    disk: Path
    manifest: Path
    files: Mapping[str, str]

    @classmethod
    def load(cls, directory: Path, name: str) -> "Image":
        """Find what `quotegate image build` wrote; raises HostError `no-image`, `bad-image`."""
        manifest = directory / f"{name}.json"
        try:
            data = json.loads(manifest.read_text())
            files = {str(path): str(digest) for path, digest in data["files"].items()}
        except OSError as error:
            raise HostError(
                "no-image", f"{manifest}: {error.strerror}; build it: quotegate image build {name}"
            ) from error
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise HostError(
                "bad-image", f"{manifest}: not an image's manifest: {error}; build it again"
            ) from error
        return cls(name, directory / f"{name}.efi", directory / f"{name}.img", manifest, files)

    def values(self) -> dict[str, Events]:
        """Compute all reference values from the files; raises HostError."""
        try:
            events = predict(self.uki.read_bytes())
            allowed = tuple(
                ReferenceEvent(path, bytes.fromhex(one)) for path, one in sorted(self.files.items())
            )
        except (OSError, ValueError) as error:
            raise HostError("bad-image", f"{self.uki}: {error}; build it again") from error
        return {value_name(self.name, pcr): found for pcr, found in events.items()} | {
            files_name(self.name): allowed
        }


def check_name(image: str) -> None:
    """Refuse a name by which no policy could ask for the image; raises HostError `bad-name`."""
    if not _NAME.fullmatch(image):
        raise HostError(
            "bad-name",
            f"image name {image!r}: expected a-z, 0-9 and '-', at most 32, a letter first; name it otherwise",
        )


def value_name(image: str, pcr: int) -> str:
    """Return how a reference set names an image's PCR."""
    return f"{image}-pcr{pcr}"


def files_name(image: str) -> str:
    """Return how a reference set names the files of an image that may be run."""
    return f"{image}-files"


def profile_for(image: str, *, verified_root: bool = False) -> Profile:
    """Return the profile of machines that run an image: what was booted, and every program run since.

    A verified root needs no list of what was run: its hash is on the command line, and nobody can add a file.
    """
    pcrs = {pcr: value_name(image, pcr) for pcr in PCRS}
    if not verified_root:
        pcrs[IMA_PCR] = IMA_PREFIX + files_name(image)
    return Profile.of(image, pcrs)


def pcr_values(values: Mapping[str, Events], image: str) -> dict[int, bytes]:
    """Return the PCRs (SHA-256) that an image's events lead to."""
    found = ReferenceSet(0, 0, values)
    return {pcr: found.value(value_name(image, pcr), HashAlg.SHA256) or b"" for pcr in PCRS}
