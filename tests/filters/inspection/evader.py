"""Answers that hide the EICAR test file behind one oddity of HTTP: made here, one class after the other."""

import gzip
import zlib
from itertools import product

from tests.filters.inspection.drive import EICAR, answer, chunked

OK = b"HTTP/1.1 200 OK"
CHUNKED = b"Transfer-Encoding: chunked"
RAW = zlib.compressobj(wbits=-15)
DEFLATED = RAW.compress(EICAR) + RAW.flush()
GZIPPED = gzip.compress(EICAR, mtime=0)
BODIES = {"plain": (b"", EICAR), "gzip": (b"Content-Encoding: gzip", GZIPPED)}
SPACES = {
    "vt": b"\x0b",
    "ff": b"\x0c",
    "nul": b"\0",
    "tab": b"\t",
    "space": b" ",
    "cr": b"\r",
    "lf": b"\n",
    "nbsp": b"\xa0",
}


def head(*lines: bytes, end: bytes = b"\r\n", last: bytes | None = None) -> bytes:
    return end.join(one for one in lines if one) + (last if last is not None else end + end)


def _line_ends() -> dict[str, bytes]:
    found = {}
    for (name, end), (kind, (coding, body)) in product(
        {"lf": b"\n", "cr": b"\r", "lfcr": b"\n\r", "crcrlf": b"\r\r\n", "crlf-space": b"\r\n "}.items(),
        BODIES.items(),
    ):
        found[f"line end {name} {kind}"] = (
            head(OK, b"Server: x", coding, b"Content-Length: %d" % len(body), end=end) + body
        )
        found[f"last line end {name} {kind}"] = (
            head(OK, coding, b"Content-Length: %d" % len(body), last=b"") + end + end + body
        )
        found[f"chunk line end {name} {kind}"] = head(OK, coding, CHUNKED) + chunked(body).replace(
            b"\r\n", end
        )
    return found


def _chunks() -> dict[str, bytes]:
    found = {}
    for name, mark in SPACES.items():
        for place, form in {
            "before": mark + b"%x",
            "after": b"%x" + mark,
            "both": mark + b"%x" + mark,
        }.items():
            body = b"".join(form % len(one) + b"\r\n" + one + b"\r\n" for one in (EICAR[:30], EICAR[30:]))
            found[f"chunk size {name} {place}"] = head(OK, CHUNKED) + body + b"0\r\n\r\n"
    for name, form in {
        "0x": b"0x%x", "plus": b"+%x", "minus": b"-%x", "long": b"%020x", "ext": b"%x;", "ext-junk": b"%x; a b", "comma": b"%x,",
        "quoted": b"\"%x\"", "overflow": b"1%016x", "upper": b"%X", "zeros": b"%04x", "dot": b"%x.0",
    }.items():  # fmt: skip
        body = b"".join(form % len(one) + b"\r\n" + one + b"\r\n" for one in (EICAR[:30], EICAR[30:]))
        found[f"chunk form {name}"] = head(OK, CHUNKED) + body + b"0\r\n\r\n"
    found["chunk without end"] = head(OK, CHUNKED) + b"44\r\n" + EICAR
    found["chunk too short"] = head(OK, CHUNKED) + b"10\r\n" + EICAR + b"\r\n0\r\n\r\n"
    found["no chunks at all"] = head(OK, CHUNKED) + EICAR
    return found


def _framing() -> dict[str, bytes]:
    whole, size = chunked(EICAR), b"Content-Length: %d" % len(EICAR)
    fields = {
        "both": [CHUNKED, size], "both turned": [size, CHUNKED], "twice": [CHUNKED, CHUNKED], "identity, chunked": [b"Transfer-Encoding: identity, chunked"],
        "chunked, identity": [b"Transfer-Encoding: chunked, identity"], "x": [b"Transfer-Encoding: xchunked"], "x 2": [b"Transfer-Encoding: chunked x"],
        "quoted": [b'Transfer-Encoding: "chunked"'], "folded": [b"Transfer-Encoding:\r\n chunked"], "comma": [b"Transfer-Encoding: ,chunked"],
        "space": [b"Transfer-Encoding : chunked"], "colon": [b"Transfer-Encoding:: chunked"], "underscore": [b"Transfer_Encoding: chunked", size],
        "spaced name": [b"Transfer Encoding: chunked"], "leading space": [b" Transfer-Encoding: chunked"], "empty name": [b": x", CHUNKED],
        "case": [b"tRANSFER-eNCODING: CHUNKED"], "utf-8": [b"Transfer-Encoding: =?UTF-8?B?Y2h1bmtlZA==?="], "semicolon": [b"Transfer-Encoding: chunked;q=1"],
        "chunked chunked": [b"Transfer-Encoding: chunked, chunked"],
    }  # fmt: skip
    found = {f"framing {name} chunked": head(OK, *lines) + whole for name, lines in fields.items()}
    found |= {f"framing {name} plain": head(OK, *lines) + EICAR for name, lines in fields.items()}
    lengths = {
        "less": b"10", "more": b"100", "hex": b"0x44", "list": b"68, 68", "plus": b"+68", "minus": b"-1", "words": b"68 bytes", "zero led": b"0068",
        "empty": b"", "float": b"68.0", "huge": b"1" + b"0" * 30, "space": b"6 8",
    }  # fmt: skip
    found |= {
        f"length {name}": head(OK, b"Content-Length: " + value) + EICAR for name, value in lengths.items()
    }
    found["length twice same"] = head(OK, size, size) + EICAR
    found["length twice other"] = head(OK, size, b"Content-Length: 10") + EICAR
    return found


def _codings() -> dict[str, bytes]:
    length = lambda body: b"Content-Length: %d" % len(body)  # noqa: E731
    cases = {
        "deflate raw": (b"deflate", DEFLATED), "deflate zlib": (b"deflate", zlib.compress(EICAR)), "gzip": (b"gzip", GZIPPED), "x-gzip": (b"x-gzip", GZIPPED),
        "GZIP": (b"GZIP", GZIPPED), "gzip unsaid": (b"", GZIPPED), "gzip said, plain": (b"gzip", EICAR), "deflate said, plain": (b"deflate", EICAR),
        "gzip cut": (b"gzip", GZIPPED[:-4]), "gzip no trailer": (b"gzip", GZIPPED[:-8]), "gzip wrong sum": (b"gzip", GZIPPED[:-8] + b"\0" * 8),
        "gzip twice": (b"gzip, gzip", gzip.compress(GZIPPED)), "gzip said twice": (b"gzip, gzip", GZIPPED), "two members": (b"gzip", gzip.compress(EICAR[:30]) + gzip.compress(EICAR[30:])),
        "gzip, deflate said": (b"gzip, deflate", GZIPPED), "identity": (b"identity", EICAR), "unknown": (b"foo", EICAR), "gzip;q": (b"gzip;q=1", GZIPPED),
        "quoted": (b'"gzip"', GZIPPED), "compress": (b"compress", GZIPPED), "spaced": (b"g zip", GZIPPED), "empty member": (b",gzip", GZIPPED), "vt": (b"\x0bgzip", GZIPPED),
        "gzip flags": (b"gzip", GZIPPED[:3] + b"\xe0" + GZIPPED[4:]), "gzip method": (b"gzip", GZIPPED[:2] + b"\7" + GZIPPED[3:]),
    }  # fmt: skip
    found = {}
    for name, (coding, body) in cases.items():
        field = b"Content-Encoding: " + coding if coding else b""
        found[f"coding {name}"] = head(OK, field, length(body)) + body
        found[f"coding {name} chunked"] = head(OK, field, CHUNKED) + chunked(body)
    found["coding field twice"] = (
        head(OK, b"Content-Encoding: gzip", b"Content-Encoding: gzip", length(GZIPPED)) + GZIPPED
    )
    found["coding field twice, other"] = (
        head(OK, b"Content-Encoding: gzip", b"Content-Encoding: identity", length(GZIPPED)) + GZIPPED
    )
    found["coding base64"] = head(OK, b"Content-Transfer-Encoding: base64", length(EICAR)) + EICAR
    return found


def _status() -> dict[str, bytes]:
    lines = {
        "lower": b"http/1.1 200 OK", "1.2": b"HTTP/1.2 200 OK", "2.0": b"HTTP/2.0 200 OK", "01.1": b"HTTP/01.1 200 OK", "1.10": b"HTTP/1.10 200 OK", "no version": b"HTTP 200 OK",
        "two spaces": b"HTTP/1.1  200 OK", "tab": b"HTTP/1.1\t200 OK", "2xx": b"HTTP/1.1 2xx OK", "20": b"HTTP/1.1 20 OK", "2000": b"HTTP/1.1 2000 OK", "0200": b"HTTP/1.1 0200 OK",
        "600": b"HTTP/1.1 600 OK", "099": b"HTTP/1.1 099 OK", "icy": b"ICY 200 OK", "led by space": b" HTTP/1.1 200 OK", "led by line": b"\r\nHTTP/1.1 200 OK", "led by lf": b"\nHTTP/1.1 200 OK",
        "led by junk": b"junk\r\nHTTP/1.1 200 OK", "nul": b"HTTP/1.1 200 O\0K", "comma": b"HTTP/1,1 200 OK",
        **{str(code): b"HTTP/1.1 %d X" % code for code in (100, 102, 103, 201, 203, 204, 205, 206, 300, 301, 304, 307, 400, 401, 404, 407, 410, 418, 500, 503, 599)},
    }  # fmt: skip
    found = {f"status {name}": answer(EICAR, status=line) for name, line in lines.items()}
    found |= {f"status {name} chunked": head(line, CHUNKED) + chunked(EICAR) for name, line in lines.items()}
    found["1.0 chunked"] = head(b"HTTP/1.0 200 OK", CHUNKED) + chunked(EICAR)
    found["0.9"] = EICAR
    found["until close"] = head(OK) + EICAR
    return found


VARIANTS = {**_line_ends(), **_chunks(), **_framing(), **_codings(), **_status()}
