"""Evidence of real boots: bundles (docs/evidence.md), packed. `python -m tests.vm.record` makes them anew."""

import gzip
from pathlib import Path

from authn.bundle import EvidenceBundle

RECORDED = Path(__file__).parent / "recorded"
GOOD, VIOLATION = "good", "ima-violation"


def path_of(name: str) -> Path:
    return RECORDED / f"{name}.json.gz"


def save(name: str, bundle: bytes) -> None:
    """Pack a bundle: the same one gives the same bytes."""
    RECORDED.mkdir(exist_ok=True)
    path_of(name).write_bytes(gzip.compress(bundle, mtime=0))


def load(name: str) -> EvidenceBundle:
    return EvidenceBundle.parse(gzip.decompress(path_of(name).read_bytes()))
