"""Tell an object's type from its content, with libmagic (the only user of it)."""

import threading
from dataclasses import dataclass

import magic

from filters.inspection.objects.archive_kinds import is_archive

_LOOK_AT = 1 << 20  # libmagic reads no further for what matters here
_local = threading.local()  # a libmagic cookie belongs to one thread

FAMILIES = {
    "executable": (
        "application/x-executable", "application/x-pie-executable", "application/x-sharedlib", "application/x-object",
        "application/x-dosexec", "application/vnd.microsoft.portable-executable", "application/x-mach-binary",
        "application/x-msi", "application/java-archive", "application/x-java-applet", "application/vnd.android.package-archive",
        "application/x-debian-package", "application/vnd.debian.binary-package", "application/x-rpm", "application/x-ms-dos-executable",
    ),
    "script": (
        "text/x-shellscript", "text/x-python", "text/x-script.python", "text/x-perl", "text/x-ruby", "text/x-php",
        "text/x-msdos-batch", "text/x-lua", "text/x-tcl", "application/javascript", "text/javascript", "text/x-powershell",
    ),
    "archive": (
        "application/zip", "application/x-tar", "application/gzip", "application/x-gzip", "application/x-bzip2",
        "application/x-xz", "application/x-lzma", "application/zstd", "application/x-zstd", "application/x-7z-compressed", "application/x-rar",
        "application/vnd.rar", "application/vnd.ms-cab-compressed", "application/x-iso9660-image", "application/x-cpio",
        "application/x-archive", "application/x-debian-package", "application/vnd.debian.binary-package", "application/x-rpm",
        "application/java-archive", "application/vnd.android.package-archive", "application/x-lha", "application/x-lzh-compressed", "application/x-lzip",
        "application/x-compress", "application/x-lz4", "application/x-xar",
    ),
    "document": (
        "application/pdf", "application/msword", "application/vnd.ms-excel", "application/vnd.ms-powerpoint", "application/vnd.ms-office",
        "application/CDFV2", "application/x-ole-storage", "text/rtf", "application/rtf", "application/postscript",
    ),
    "image": (),
    "audio": (),
    "video": (),
    "font": (),
    "text": (),
}  # fmt: skip
_PACKED_DOCUMENTS = (
    "application/vnd.openxmlformats-officedocument",
    "application/vnd.oasis.opendocument",
    "application/epub+zip",
)


@dataclass(frozen=True, slots=True)
class FileType:
    """A media type as the content shows it, and the families it belongs to."""

    media_type: str
    families: frozenset[str]


def file_type(data: bytes) -> FileType:
    """Return the type of an object; unknown content is application/octet-stream, in no family."""
    if not hasattr(_local, "magic"):
        _local.magic = magic.Magic(mime=True)
    media_type = _told(bytes(data[:_LOOK_AT]))
    families = {name for name, members in FAMILIES.items() if media_type in members}
    if media_type.startswith(_PACKED_DOCUMENTS):
        families |= {"document", "archive"}
    if (kind := media_type.split("/", maxsplit=1)[0]) in {"image", "audio", "video", "font", "text"}:
        families.add(kind)
    families |= _by_first_bytes(bytes(data[:16]))
    if is_archive(data):
        families.add("archive")
    return FileType(media_type, frozenset(families))


def _told(head: bytes) -> str:
    """Return what libmagic says; it gives up on what goes on and on inside itself."""
    try:
        return str(_local.magic.from_buffer(head))
    except magic.MagicException:
        return "application/octet-stream"


def _by_first_bytes(head: bytes) -> set[str]:
    """Add what libmagic says only of well-formed files: half a program is refused like a whole one."""
    if head[:4] == b"\x7fELF" or head[:2] == b"MZ" or head[:4] in _MACH_O:
        return {"executable"}
    return {"script"} if head[:2] == b"#!" else set()


_MACH_O = (b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
