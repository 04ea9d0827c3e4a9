"""Odd HTTP answers, made by combining: status line × fields × framing × label of the coding × real coding × line ends."""

import gzip
import zlib
from collections.abc import Iterator
from itertools import product

import brotli
import zstandard

from tests.filters.inspection.drive import EICAR
from tests.filters.inspection.evader import DEFLATED, GZIPPED

SKIPPABLE = b"\x50\x2a\x4d\x18\x04\0\0\0abcd"  # a zstd frame without content
ZSTD = zstandard.compress(EICAR)
Frame = tuple[tuple[bytes, ...], bytes]


def flagged(flag: int, extra: bytes) -> bytes:
    """A gzip member with optional parts in its header."""
    return GZIPPED[:3] + bytes([flag]) + GZIPPED[4:10] + extra + GZIPPED[10:]


CODED = {
    "plain": EICAR, "gzip": GZIPPED, "zlib": zlib.compress(EICAR), "raw": DEFLATED, "br": brotli.compress(EICAR), "zstd": ZSTD, "gzip gzip": gzip.compress(GZIPPED),
    "two members": gzip.compress(b"x") + GZIPPED, "empty member first": gzip.compress(b"") + GZIPPED, "gzip and more": gzip.compress(b"x") + EICAR,
    "gzip name": flagged(8, b"name\0"), "gzip extra": flagged(4, b"\4\0abcd"), "gzip comment": flagged(16, b"c\0"), "gzip header sum": flagged(2, b"\0\0"),
    "gzip text": flagged(1, b""), "gzip reserved": flagged(0x20, b""), "gzip cut": GZIPPED[:-8], "gzip led by nul": b"\0" + GZIPPED, "gzip led by line": b"\r\n" + GZIPPED,
    "zlib cut": zlib.compress(EICAR)[:-4], "zlib sum": zlib.compress(EICAR)[:-4] + bytes(4), "br br": brotli.compress(b"x") + brotli.compress(EICAR),
    "zstd zstd": zstandard.compress(b"x") + ZSTD, "zstd skippable": SKIPPABLE + ZSTD, "zstd then skippable": ZSTD + SKIPPABLE, "zlib gzip": zlib.compress(GZIPPED),
}  # fmt: skip
_LABELS = {
    "gzip": b"gzip", "x-gzip": b"x-gzip", "deflate": b"deflate", "br": b"br", "zstd": b"zstd", "upper": b"GZIP", "gzip gzip": b"gzip, gzip", "space": b"gzip ",
    "parameter": b"gzip;q=1", "gzip deflate": b"gzip, deflate", "deflate gzip": b"deflate, gzip", "identity first": b"identity, gzip", "identity last": b"gzip, identity",
    "comma first": b",gzip", "comma last": b"gzip,", "star": b"*", "empty": b"", "unknown": b"foo", "vt": b"\x0bgzip", "nbsp": b"\xa0gzip", "nul": b"\0gzip",
    "quoted": b'"gzip"', "folded": b"\r\n gzip", "x-deflate": b"x-deflate", "compress": b"compress", "word": b"gzip x", "identity": b"identity", "none": b"none",
}  # fmt: skip
LABELS: dict[str, tuple[bytes, ...]] = {
    "": (), **{name: (b"Content-Encoding: " + value,) for name, value in _LABELS.items()},
    "transfer": (b"Transfer-Encoding: gzip",), "underscore": (b"Content_Encoding: gzip",), "blank before colon": (b"Content-Encoding : gzip",),
    "twice": (b"Content-Encoding: gzip", b"Content-Encoding: gzip"), "twice, other": (b"Content-Encoding: identity", b"Content-Encoding: gzip"),
    "in a fold": (b"X: y\r\n Content-Encoding: gzip",), "tab": (b"Content-Encoding:\tgzip",), "tight": (b"Content-Encoding:gzip",),
    "led by space": (b" Content-Encoding: gzip",), "after cr": (b"X: a\rContent-Encoding: gzip",), "after lf": (b"X: a\nContent-Encoding: gzip",),
}  # fmt: skip
_CHUNKED = b"Transfer-Encoding: chunked"
_LENGTHS = {
    "": b"%d", "list": b"%d, %d", "plus": b"+%d", "zeros": b"000%d", "spaces": b" %d ", "hex": b"0x%x", "minus": b"-%d", "comma": b"%d,", "vt": b"\x0b%d",
    "underscore": b"%d_0", "dot": b"%d.0", "two words": b"%d 0", "quoted": b'"%d"',
}  # fmt: skip
_TRANSFERS = {
    "": b"chunked", "list": b"chunked, chunked", "identity first": b"identity, chunked", "identity last": b"chunked, identity", "x": b"xchunked", "word": b"chunked x",
    "parameter": b"chunked;q=1", "quoted": b'"chunked"', "comma first": b",chunked", "comma last": b"chunked,", "vt": b"\x0bchunked", "nul": b"chunked\0",
    "upper": b"CHUNKED", "gzip": b"gzip, chunked", "gzip last": b"chunked, gzip", "tabs": b"\tchunked\t", "identity": b"identity", "empty": b"", "nbsp": b"\xa0chunked",
    "kelvin": b"chun\xe2\x84\xaaed", "folded": b"\r\n chunked",
}  # fmt: skip
_SIZES = {
    "0x": b"0x%x", "plus": b"+%x", "long": b"%020x", "16 digits": b"%016x", "semicolon": b"%x;", "extension": b"%x;a=b", "quoted extension": b'%x;a="b c"',
    "junk": b"%x; a b", "blank extension": b"%x ;a=b", "space": b"%x ", "led by space": b" %x", "tab": b"%x\t", "comma": b"%x,", "upper": b"%X", "over 32 bits": b"1%08x",
    "over 63 bits": b"80000000%08x", "over 64 bits": b"1%016x", "minus": b"-%x", "dot": b"%x.", "vt": b"\x0b%x", "nul": b"%x\0", "underscore": b"0_%x", "cr": b"\r%x",
    "cr extension": b"%x;a\rb", "lf extension": b"%x;a\nb", "lf": b"%x\n", "letter": b"%xz", "quoted": b'"%x"', "star": b"%x*",
}  # fmt: skip
_CHUNK_ENDS = {
    "lf": b"\n",
    "cr": b"\r",
    "none": b"",
    "lfcr": b"\n\r",
    "crlflf": b"\r\n\n",
    "crcrlf": b"\r\r\n",
    "space": b" \r\n",
}
_LAST = {
    "none": b"", "zero": b"0", "one line": b"0\r\n", "trailer": b"0\r\nX: y\r\n\r\n", "coding": b"0\r\nContent-Encoding: gzip\r\n\r\n", "junk": b"0\r\n\r\njunk",
    "zeros": b"00000\r\n\r\n", "letter": b"x\r\n\r\n", "extension": b"0;a=b\r\n\r\n",
}  # fmt: skip


def chunks(body: bytes, form: bytes = b"%x", end: bytes = b"\r\n", last: bytes = b"0\r\n\r\n") -> bytes:
    pieces = [body[at : at + 30] for at in range(0, len(body), 30)]
    return b"".join(form % len(one) + end + one + end for one in pieces) + last


def frames(body: bytes) -> dict[str, Frame]:
    """Every way to say where a body ends."""
    length, whole = b"Content-Length: %d" % len(body), chunks(body)
    found: dict[str, Frame] = {"until close": ((), body)}
    for name, form in _LENGTHS.items():
        found[f"length {name}"] = (
            (b"Content-Length: " + form % ((len(body),) * form.count(b"%")),),
            body,
        )
    for name, value in {"1": b"1", "0": b"0", "more": b"1000"}.items():
        found[f"length says {name}"] = (b"Content-Length: " + value,), body
    found["length twice"] = (length, b"Content-Length: 0"), body
    found["length twice, turned"] = (b"Content-Length: 0", length), body
    found["length of the chunks"] = (b"Content-Length: %d" % len(whole),), whole
    for name, value in _TRANSFERS.items():
        field = b"Transfer-Encoding: " + value
        found[f"transfer {name}"] = (field,), whole
        found[f"transfer {name}, plain"] = (field,), body
        found[f"transfer {name}, length, plain"] = (field, length), body
        found[f"transfer {name}, length"] = (field, b"Content-Length: %d" % len(whole)), whole
    for name, line in {
        "blank": b"Transfer-Encoding : chunked", "underscore": b"Transfer_Encoding: chunked", "led by space": b" Transfer-Encoding: chunked",
        "after cr": b"X: y\rTransfer-Encoding: chunked", "x": b"X-Transfer-Encoding: chunked",
    }.items():  # fmt: skip
        found[f"transfer field {name}"] = (line,), whole
    found["transfer twice"] = (_CHUNKED, _CHUNKED), whole
    found |= {f"size {name}": ((_CHUNKED,), chunks(body, form)) for name, form in _SIZES.items()}
    for name, end in _CHUNK_ENDS.items():
        found[f"chunk end {name}"] = (_CHUNKED,), chunks(body, end=end, last=b"0" + end + end)
    found |= {f"last {name}": ((_CHUNKED,), chunks(body, last=last)) for name, last in _LAST.items()}
    found["empty chunk first"] = (_CHUNKED,), b"0\r\n\r\n" + body
    found["empty line first"] = (_CHUNKED,), b"\r\n" + whole
    return found


_OK = b"HTTP/1.1 200 OK"
STATUS = {
    "": _OK, "1.0": b"HTTP/1.0 200 OK", "bare": b"HTTP/1.1 200", "bare, blank": b"HTTP/1.1 200 ", "lower": b"http/1.1 200 OK", "1.2": b"HTTP/1.2 200 OK", "2": b"HTTP/2 200 OK",
    "2.0": b"HTTP/2.0 200 OK", "0.9": b"HTTP/0.9 200 OK", "1.x": b"HTTP/1.x 200 OK", "no version": b"HTTP 200 OK", "two spaces": b"HTTP/1.1  200 OK", "tab": b"HTTP/1.1\t200 OK",
    "led by space": b" " + _OK, "led by line": b"\r\n" + _OK, "led by lf": b"\n" + _OK, "led by lines": b"\r\n\r\n" + _OK, "bom": b"\xef\xbb\xbf" + _OK, "led by junk": b"junk\r\n" + _OK,
    "led by nul": b"\0" + _OK, "plus": b"HTTP/1.1 +200 OK", "minus": b"HTTP/1.1 -200 OK", "hex": b"HTTP/1.1 0xc8 OK", "icy": b"ICY 200 OK", "rtsp": b"RTSP/1.0 200 OK",
    "blank in version": b"HTTP/ 1.1 200 OK", "1": b"HTTP/1 200 OK", "1.10": b"HTTP/1.10 200 OK", "01.1": b"HTTP/01.1 200 OK", "colon": b"HTTP:/1.1 200 OK", "cr": b"HTTP/1.1 200 O\rK",
    "nul": b"HTTP/1.1 200 O\0K", "folded": b"HTTP/1.1 200\r\n OK",
    **{code: b"HTTP/1.1 " + code.encode() + b" X" for code in ["000", "20", "099", "100", "101", "102", "103", "199", "201", "202", "203", "204", "205", "206", "207", "226", "300", "301", "303", "304", "305", "307", "400", "401", "403", "404", "407", "416", "418", "426", "500", "502", "505", "599", "600", "999", "2000"]},
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + _OK, "continue with length": b"HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\n" + _OK,
    "continue lf": b"HTTP/1.1 100 Continue\n\n" + _OK, "early hints": b"HTTP/1.1 103 E\r\nLink: x\r\n\r\n" + _OK, "after 204": b"HTTP/1.1 204 N\r\n\r\n" + _OK,
    "after 304": b"HTTP/1.1 304 N\r\n\r\n" + _OK, "after 101": b"HTTP/1.1 101 S\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n" + _OK,
}  # fmt: skip
LINE_ENDS = {"": b"\r\n", "lf": b"\n", "cr": b"\r", "lfcr": b"\n\r", "crcrlf": b"\r\r\n", "space": b" \r\n", "nul": b"\0\r\n"}  # fmt: skip
LAST_LINES = {
    "": b"\r\n\r\n", "lflf": b"\n\n", "crlflf": b"\r\n\n", "lfcrlf": b"\n\r\n", "crcr": b"\r\r", "space": b"\r\n \r\n", "tab": b"\r\n\t\r\n", "one": b"\r\n", "nul": b"\r\n\0\r\n\r\n",
    "colon": b"\r\n:\r\n\r\n", "junk": b"\r\njunk\r\n\r\n", "cr": b"\r\n\r\r\n", "vt": b"\r\n\x0b\r\n\r\n",
}  # fmt: skip
FIELDS: dict[str, tuple[bytes, ...]] = {
    "close": (b"Connection: close",), "folded status": (b" folded",), "no colon": (b"junk",), "no name": (b": x",), "no value": (b"X:",), "blank in name": (b"X y: z",),
    "name not ascii": (b"X\x80: y",), "fold": (b"X: y\r\n z",), "multipart": (b"Content-Type: multipart/mixed; boundary=b",), "range": (b"Content-Range: bytes 0-67/68",),
    "mime coding": (b"Content-Transfer-Encoding: base64",), "utf-16": (b"Content-Type: text/plain; charset=utf-16",), "vt": (b"X: \x0b",),
    "upgrade": (b"Upgrade: h2c", b"Connection: upgrade"), "connection names framing": (b"Connection: content-length, transfer-encoding",),
}  # fmt: skip
_KINDS = (("", "plain"), ("gzip", "gzip"))
_SIMPLE = ("length ", "transfer ", "until close")


def grid() -> Iterator[tuple[str, bytes]]:
    """Yield (name, answer): each axis against the framings, and the label of the coding against the real one."""
    framed = {name: frames(body) for name, body in CODED.items()}

    def made(
        name: str,
        status: bytes,
        label: str,
        coded: str,
        frame: str,
        fields: tuple[bytes, ...] = (),
        end: bytes = b"\r\n",
        last: bytes | None = None,
    ) -> tuple[str, bytes]:
        lines, body = framed[coded][frame]
        head = end.join([status, *fields, *LABELS[label], *lines]) + (last or end + end)
        return f"{name} | {frame} | said {label or 'nothing'} | is {coded}", head + body

    for label, coded, frame in product(LABELS, CODED, _SIMPLE):
        yield made("coding", _OK, label, coded, frame)
    for (name, status), frame, kind in product(STATUS.items(), framed["plain"], _KINDS):
        yield made(f"status {name}", status, *kind, frame)
    for (name, end), (ending, last), frame, kind in product(
        LINE_ENDS.items(), LAST_LINES.items(), _SIMPLE, _KINDS
    ):
        yield made(f"line end {name}, last {ending}", _OK, *kind, frame, (), end, last)
    for (name, fields), frame, kind in product(FIELDS.items(), framed["plain"], _KINDS):
        yield made(f"field {name}", _OK, *kind, frame, fields)
