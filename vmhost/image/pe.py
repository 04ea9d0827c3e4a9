"""Read PE/COFF programs as firmware does, and hash them as Authenticode does.

Source: Microsoft, "PE Format" and "Windows Authenticode Portable Executable Signature Format".
"""

import hashlib
import struct
from dataclasses import dataclass

from vmhost.errors import HostError

_PE32PLUS = 0x20B
_HEADER_SIZE = 24  # the signature and the COFF header
_TIME = 8  # offset from the signature on
_CHECKSUM, _CERTIFICATES = 64, 144  # offsets in the optional header of PE32+


@dataclass(frozen=True, slots=True)
class Section:
    """One section: where it is in memory, and in the file. `size` is that of its content (VirtualSize)."""

    name: str
    size: int
    address: int
    raw_size: int
    offset: int
    header: int  # where its own header is


class PeFile:
    """A PE32+ program; raises HostError `bad-pe`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        try:
            self._parse()
        except struct.error as error:
            raise HostError(
                "bad-pe", f"not an EFI program: its {len(data)} bytes end in the middle of its headers"
            ) from error
        except UnicodeDecodeError as error:
            raise HostError(
                "bad-pe", f"not an EFI program: expected section names in ASCII, got {error.object!r}"
            ) from error

    def _parse(self) -> None:
        data = self._data
        (self.header,) = (header,) = struct.unpack_from("<I", data, 0x3C)
        if data[:2] != b"MZ" or data[header : header + 4] != b"PE\0\0":
            raise HostError("bad-pe", "not an EFI program: expected MZ and PE signatures")
        count, optional_size = (
            struct.unpack_from("<H", data, header + 6)[0],
            struct.unpack_from("<H", data, header + 20)[0],
        )
        self._optional = header + _HEADER_SIZE
        magic = struct.unpack_from("<H", data, self._optional)[0]
        if magic != _PE32PLUS:
            raise HostError(
                "bad-pe", f"not a 64-bit EFI program: expected magic {_PE32PLUS:#x}, got {magic:#x}"
            )
        (self.image_base,) = struct.unpack_from("<Q", data, self._optional + 24)
        (self.section_alignment,) = struct.unpack_from("<I", data, self._optional + 32)
        (self._headers_size,) = struct.unpack_from("<I", data, self._optional + 60)
        _, self._certificates_size = struct.unpack_from("<II", data, self._optional + _CERTIFICATES)
        self.sections = tuple(self._section(self._optional + optional_size + 40 * at) for at in range(count))
        # else a small file with many headers takes minutes to hash
        if (total := sum(one.raw_size for one in self.sections)) > len(data):
            raise HostError(
                "bad-pe",
                f"its sections lie over each other: they have {total} bytes of the file's {len(data)}",
            )

    def _section(self, at: int) -> Section:
        name, size, address, raw_size, offset = struct.unpack_from("<8sIIII", self._data, at)
        if offset + raw_size > len(self._data):
            raise HostError("bad-pe", f"section {name!r} lies outside the file")
        return Section(name.rstrip(b"\0").decode("ascii"), size, address, raw_size, offset, at)

    @property
    def end(self) -> int:
        """Where the last section ends in memory, relative to the image base."""
        return max((one.address + one.size for one in self.sections), default=0)

    def content(self, name: str) -> bytes | None:
        """Return what a section holds; None when there is no such section."""
        one = self.section(name)
        return None if one is None else self._data[one.offset : one.offset + min(one.size, one.raw_size)]

    def section(self, name: str) -> Section | None:
        """Return the first section of that name."""
        return next((one for one in self.sections if one.name == name), None)

    def authenticode(self) -> bytes:
        """Hash the program (SHA-256) without its checksum and signatures: what firmware measures and signatures cover."""
        data, optional = self._data, self._optional
        digest = hashlib.sha256()
        digest.update(data[: optional + _CHECKSUM])
        digest.update(data[optional + _CHECKSUM + 4 : optional + _CERTIFICATES])
        digest.update(data[optional + _CERTIFICATES + 8 : self._headers_size])
        hashed = self._headers_size
        for one in sorted((one for one in self.sections if one.raw_size), key=lambda one: one.offset):
            digest.update(data[one.offset : one.offset + one.raw_size])
            hashed += one.raw_size
        rest = len(data) - hashed - self._certificates_size
        if rest > 0:
            digest.update(data[hashed : hashed + rest])
        return digest.digest()


def without_times(program: bytes) -> bytes:
    """Return the program without when it was linked, and without its checksum: two builds are equal then.

    Firmware looks at neither. Raises HostError `bad-pe`.
    """
    header = PeFile(program).header
    changed = bytearray(program)
    changed[header + _TIME : header + _TIME + 4] = bytes(4)
    checksum = header + _HEADER_SIZE + _CHECKSUM
    changed[checksum : checksum + 4] = bytes(4)
    return bytes(changed)
