"""Files as servers have them: text, sources, pictures, archives, and random bytes."""

import gzip
import random
import subprocess
import tarfile
import zipfile
import zlib
from pathlib import Path

SOURCES = Path("/usr/lib/python3.11")  # texts that were not written for this test
RANDOM = "random.bin"


def make_site(folder: Path) -> None:
    """Fill a folder."""
    (folder / "empty.txt").write_bytes(b"")
    (folder / "line.txt").write_bytes(b"one line\n")
    (folder / RANDOM).write_bytes(random.randbytes(3 << 20))
    (folder / "table.csv").write_text(_table())
    (folder / "picture.png").write_bytes(_picture())
    (folder / "deep/er").mkdir(parents=True)
    for path in sorted(SOURCES.glob("email/*.py")) + sorted(SOURCES.glob("http/*.py")):
        (folder / "deep/er" / f"{path.parent.name}-{path.name}").write_bytes(path.read_bytes())
    (folder / "deep/list.json").write_text(str(list(range(5000))))
    (folder / "umlaut äöü 100%.txt").write_text("Grüße\r\nund 漢字\n", encoding="utf-8")
    with tarfile.open(folder / "sources.tar.xz", "w:xz") as archive:
        archive.add(SOURCES / "json", "json")
    with zipfile.ZipFile(folder / "sources.zip", "w", zipfile.ZIP_DEFLATED) as packed:
        for path in sorted(SOURCES.glob("asyncio/*.py")):
            packed.write(path, path.name)
    (folder / "log.gz").write_bytes(gzip.compress(_table().encode() * 4))
    subprocess.run(["chmod", "-R", "a+rX", folder], check=True)


def _table() -> str:
    rows = (
        f"{n},{n * 7919 % 100003},name {n % 97},{n / 7:.3f},2024-05-{n % 28 + 1:02}\n" for n in range(20000)
    )
    return "id,number,name,part,day\n" + "".join(rows)


def _picture() -> bytes:
    """A PNG of noise, 64 by 64."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    rows = b"".join(b"\0" + random.randbytes(192) for _ in range(64))
    header = (64).to_bytes(4, "big") * 2 + b"\x08\x02\0\0\0"
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
