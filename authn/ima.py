"""Parse a Linux IMA measurement list and find how much of it a quote proves.

The kernel appends to the list first and extends PCR 10 afterwards, and a list is read after its quote: so
a list may run ahead of the quote, never behind it. Format: Linux, Documentation/security/IMA-templates.rst,
`binary_runtime_measurements` in little-endian order; templates `ima-ng` and `ima-sig`.
"""

import hashlib
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from authn.cursor import Cursor
from authn.errors import AttestationError
from authn.failure import AttestationFailure
from authn.pcr import HashAlg, extend

IMA_PCR = 10
TEMPLATES = (b"ima-ng", b"ima-sig")
BOOT_AGGREGATE = "boot_aggregate"  # the first entry: the kernel's digest of PCR 0 to 9, no file
MAX_LIST = 4 << 20
MAX_ENTRIES = 65536
MAX_NAME = 4096  # PATH_MAX with its NUL: the kernel writes no longer name
MAX_AHEAD = 512 << 10  # bytes that no quote has proved yet; an honest machine has a few entries
_SHA1_SIZE = 20
_FRAME_SIZE = 4 + _SHA1_SIZE + 4 + 4  # PCR, template hash, two lengths
_HASHES = {b"sha256:\0": 32, b"sha384:\0": 48, b"sha512:\0": 64, b"sha1:\0": 20}


@dataclass(frozen=True, slots=True)
class ImaEntry:
    """One measured file. `violation`: it was open for writing while it was measured, so the digest means nothing."""

    template: bytes
    template_data: bytes
    digest: bytes
    path: str
    violation: bool

    @property
    def size(self) -> int:
        """Return how many bytes it has in the list."""
        return _FRAME_SIZE + len(self.template) + len(self.template_data)

    def measured(self, bank: HashAlg) -> bytes:
        """Return what the kernel extended: the hash of the template data; all ones for a violation."""
        return b"\xff" * bank.size if self.violation else bank.digest(self.template_data)

    def encode(self) -> bytes:
        """Write the entry as the kernel shows it."""
        sha1 = bytes(_SHA1_SIZE) if self.violation else _sha1(self.template_data)
        name = struct.pack("<I", len(self.template)) + self.template
        data = struct.pack("<I", len(self.template_data)) + self.template_data
        return struct.pack("<I", IMA_PCR) + sha1 + name + data


def _sha1(data: bytes) -> bytes:
    return hashlib.sha1(data, usedforsecurity=False).digest()


def _malformed(message: str, at: int) -> AttestationError:
    return AttestationError(AttestationFailure.MALFORMED_IMA_LIST, message, offset=at)


def _cursor(data: bytes) -> Cursor:
    return Cursor(data, "little", lambda at, _: _malformed("the list ends in the middle of an entry", at))


def parse_ima_list(untrusted_list: bytes) -> tuple[ImaEntry, ...]:
    """Return the entries in order; raises AttestationError `malformed-ima-list`."""
    if len(untrusted_list) > MAX_LIST:
        raise _malformed(f"the list is larger than {MAX_LIST} bytes", len(untrusted_list))
    cursor = _cursor(untrusted_list)
    entries = list[ImaEntry]()
    while cursor.at < len(untrusted_list):
        entries.append(_parse_entry(cursor))
    return tuple(entries)


def _parse_entry(cursor: Cursor) -> ImaEntry:
    start = cursor.at
    if (pcr := cursor.number(4)) != IMA_PCR:
        raise _malformed(f"an entry is for PCR {pcr}", start)
    template_digest, template, data = cursor.take(_SHA1_SIZE), cursor.sized(4), cursor.sized(4)
    if template not in TEMPLATES:
        raise _malformed(f"template {template[:16]!r} is not understood; expected ima-ng or ima-sig", start)
    violation = not any(template_digest)
    if not violation and template_digest != _sha1(data):
        raise _malformed("an entry's template hash is not that of its data", start)
    digest, path = _parse_template(data, template, start)
    return ImaEntry(template, data, digest, path, violation)


def _parse_template(data: bytes, template: bytes, start: int) -> tuple[bytes, str]:
    """Read `d-ng` (algorithm, digest) and `n-ng` (path, NUL); `ima-sig` has a signature behind them."""
    fields = _cursor(data)
    file_hash, name = fields.sized(4), fields.sized(4)
    if template == b"ima-sig":
        fields.sized(4)
    if fields.at != len(data):
        raise _malformed("bytes follow an entry's template fields", start)
    algorithm, colon, digest = file_hash.partition(b":\0")
    if _HASHES.get(algorithm + colon) != len(digest):
        raise _malformed("an entry's file hash has an unknown algorithm or another length", start)
    if not name.endswith(b"\0") or b"\0" in name[:-1]:
        raise _malformed("an entry's file name does not end with its only NUL", start)
    if len(name) > MAX_NAME:
        raise _malformed(f"an entry's file name has more than {MAX_NAME} bytes", start)
    return digest, name[:-1].decode("utf-8", "backslashreplace")


@dataclass(slots=True)
class MeasuredFiles:
    """One machine's list as far as its quotes have proved it, and what came ahead of them."""

    bank: HashAlg
    value: bytes
    ahead: list[ImaEntry] = field(default_factory=list)
    _total: int = 0

    @classmethod
    def from_boot(cls, bank: HashAlg) -> "MeasuredFiles":
        """Begin at a PCR that nothing was measured into."""
        return cls(bank, bytes(bank.size))

    def append(self, entries: Iterable[ImaEntry]) -> None:
        """Take entries that the machine sent; nothing is proved by that. Raises AttestationError."""
        self._check_rest()
        self.ahead.extend(entries)
        if self._total + len(self.ahead) > MAX_ENTRIES:
            raise _malformed(f"the list has more than {MAX_ENTRIES} entries", 0)

    def prove(self, matches: Callable[[bytes], bool]) -> tuple[ImaEntry, ...] | None:
        """Move on to the first PCR value that the quote shows and return the files up to it; None: there is none.

        The boot aggregate is none of them: what it says of PCR 0 to 9, the quote says itself. Only the list's first
        entry can be it: a file of that name is like any other. Raises AttestationError when far more follows.
        """
        value = self.value
        for count in range(len(self.ahead) + 1):
            if matches(value):
                proved = tuple(
                    one
                    for at, one in enumerate(self.ahead[:count], self._total)
                    if at or one.path != BOOT_AGGREGATE or one.violation
                )
                del self.ahead[:count]
                self.value, self._total = value, self._total + count
                self._check_rest()
                return proved
            if count < len(self.ahead):
                value = extend(self.bank, value, self.ahead[count].measured(self.bank))
        return None

    def _check_rest(self) -> None:
        """Keep only so much for later quotes: it costs the verifier memory, and its sender nothing."""
        rest = sum(one.size for one in self.ahead)
        if rest > MAX_AHEAD:
            raise _malformed(
                f"{rest} bytes of the list are ahead of the quote, at most {MAX_AHEAD} are kept", 0
            )
