"""Compute what an image measures when it boots, from its file alone: reference values come from the build (RFC 9334).

For an image that firmware starts itself as the default boot program, with Debian's systemd-stub 252, without Secure
Boot and without option ROMs. PCR 0, 1 and 5 are not predicted: they change with memory, processors and partitions.
"""

import hashlib
import struct
from uuid import UUID

from authn.reference import ReferenceEvent
from vmhost.errors import HostError
from vmhost.image.pe import PeFile

# what the stub measures into PCR 11, in its order (systemd 252, src/fundamental/tpm-pcr.c)
MEASURED_SECTIONS = (".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb")
STUB = b"systemd-stub 252"
_MAGIC, _MAGIC_END = b"#### LoaderInfo: ", b" ####"  # how the stub names itself
# the stub hands these to the kernel in one more initrd, which goes into PCR 9 with the other
SIGNED_SECTIONS = (".pcrsig", ".pcrpkey")
CALLING = "Calling EFI Application from Boot Option"
_GLOBAL, _SECURITY = (
    UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c"),
    UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f"),
)
_SECURE_BOOT = (("SecureBoot", _GLOBAL, b"\0"), ("PK", _GLOBAL, b""), ("KEK", _GLOBAL, b""), ("db", _SECURITY, b""), ("dbx", _SECURITY, b""))  # fmt: skip
Events = tuple[ReferenceEvent, ...]


def predict(untrusted_uki: bytes) -> dict[int, Events]:
    """Return the events of PCR 2, 3, 4, 7, 9, 11 and 12; raises HostError `bad-pe`, `bad-uki`, `unknown-stub`."""
    program = PeFile(untrusted_uki)
    _check_predictable(program)
    linux, initrd, command_line = (_section(program, name) for name in (".linux", ".initrd", ".cmdline"))
    kernel = _kernel(linux)
    try:
        options = command_line.rstrip(b"\0").decode("ascii").encode("utf-16-le") + b"\0\0"
    except UnicodeDecodeError as error:
        raise HostError(
            "bad-uki", f"the command line has a byte that is not ASCII at {error.start}"
        ) from error
    return {
        2: (_separator(),),
        3: (_separator(),),
        4: (
            _event(CALLING, CALLING.encode()),
            _separator(),
            ReferenceEvent("the image", program.authenticode()),
            ReferenceEvent("kernel", kernel.authenticode()),
        ),
        7: (*(_variable(*one) for one in _SECURE_BOOT), _separator()),
        9: (_event("command line", options), _event("initrd", initrd)),
        11: tuple(_sections(program)),
        12: (),
    }


def _check_predictable(program: PeFile) -> None:
    """Refuse what would be predicted wrongly: other stubs measure other sections, in another order."""
    _section(program, ".linux")  # a kernel alone has no stub either, and wants another word
    name = (program.content(".sdmagic") or b"").removeprefix(_MAGIC).partition(_MAGIC_END)[0]
    if not name.startswith(STUB):
        raise HostError(
            "unknown-stub",
            f"checked which stub starts the image: expected {STUB.decode()}, got {name.decode('ascii', 'replace') or 'none that says so'}; "
            "build it around Debian 12's, /usr/lib/systemd/boot/efi/linuxx64.efi.stub (ukify build --stub=…)",
        )
    signed = [one.name for one in program.sections if one.name.startswith(SIGNED_SECTIONS)]
    if signed:
        raise HostError(
            "bad-uki",
            f"checked the image's sections: expected none that sign its PCRs, got {', '.join(signed)}; build it without "
            "PCR signatures (ukify build without --pcr-private-key and --pcr-public-key)",
        )

    for one in MEASURED_SECTIONS:
        _check_unmistakable(program, one)


def _check_unmistakable(program: PeFile, name: str) -> None:
    """Refuse what the stub reads otherwise than we do.

    It takes the last section whose name begins so (systemd 252, src/boot/efi/pe.c), none that is empty, and from memory,
    where the firmware puts zeros behind content that is short.
    """
    found = [one for one in program.sections if one.name.startswith(name)]
    if len(found) > 1 or any(one.name != name for one in found):
        names = ", ".join(repr(one.name) for one in found)
        raise HostError(
            "bad-uki",
            f"checked the image's sections: expected one that begins with {name}, got {names}: the stub would take the "
            "last of them; build it with that one alone",
        )
    for one in found:
        if not 0 < one.size <= one.raw_size:
            raise HostError(
                "bad-uki",
                f"checked the size of section {name}: expected 1 to {one.raw_size} bytes, as many as it has in the file, "
                f"got {one.size}; build it anew",
            )


def _kernel(linux: bytes) -> PeFile:
    try:
        return PeFile(linux)
    except HostError as error:
        raise HostError(
            "bad-uki",
            f"checked section .linux: expected a kernel that is an EFI program, got {error.message}",
        ) from error


def _section(program: PeFile, name: str) -> bytes:
    content = program.content(name)
    if content is None:
        raise HostError("bad-uki", f"not a unified kernel image: expected a section {name}, found none")
    return content


def _sections(program: PeFile) -> list[ReferenceEvent]:
    events: list[ReferenceEvent] = []
    for name in MEASURED_SECTIONS:
        content = program.content(name)
        if content is not None:
            events.append(_event(f"name of section {name}", name.encode() + b"\0"))
            events.append(_event(f"section {name}", content))
    return events


def _event(description: str, measured: bytes) -> ReferenceEvent:
    return ReferenceEvent(description, hashlib.sha256(measured).digest())


def _separator() -> ReferenceEvent:
    return _event("separator", bytes(4))


def _variable(name: str, vendor: UUID, value: bytes) -> ReferenceEvent:
    """UEFI_VARIABLE_DATA (TCG PC Client Platform Firmware Profile, 10.4.3)."""
    encoded = name.encode("utf-16-le")
    head = vendor.bytes_le + struct.pack("<QQ", len(name), len(value))
    return _event(f"variable {name}", head + encoded + value)
