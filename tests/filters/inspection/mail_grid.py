"""Odd mails, made by combining: the type of the whole × its boundary's lines × the label of the coding × the coded file."""

import base64
import binascii
import quopri
from collections.abc import Iterator
from email import message_from_bytes, policy
from itertools import product

from tests.filters.inspection.drive import EICAR

_B64 = base64.encodebytes(EICAR).replace(b"\n", b"\r\n").rstrip()
_FLAT = base64.b64encode(EICAR)
_UU = (
    b"begin 644 a\r\n"
    + b"".join(binascii.b2a_uu(EICAR[at : at + 45]) for at in (0, 45)).replace(b"\n", b"\r\n")
    + b"`\r\nend"
)
_QP = quopri.encodestring(EICAR, quotetabs=True).replace(b"\n", b"\r\n")
TYPES = {
    "": b"Content-Type: multipart/mixed; boundary=b", "quoted": b'Content-Type: multipart/mixed; boundary="b"', "no blank": b"Content-Type:multipart/mixed;boundary=b",
    "upper": b"CONTENT-TYPE: MULTIPART/MIXED; BOUNDARY=b", "unknown": b"Content-Type: multipart/x-odd; boundary=b", "folded": b"Content-Type: multipart/mixed;\r\n\tboundary=b",
    "folded name": b"Content-Type:\r\n multipart/mixed; boundary=b", "comment": b"Content-Type: multipart/mixed (x); boundary=b", "comment behind": b"Content-Type: multipart/mixed; boundary=b (x)",
    "star": b"Content-Type: multipart/mixed; boundary*=us-ascii'en'b", "in pieces": b"Content-Type: multipart/mixed; boundary*0=b", "twice": b"Content-Type: multipart/mixed; boundary=x; boundary=b",
    "field twice": b"Content-Type: text/plain\r\nContent-Type: multipart/mixed; boundary=b", "field twice, turned": b"Content-Type: multipart/mixed; boundary=b\r\nContent-Type: text/plain",
    "blank before colon": b"Content-Type : multipart/mixed; boundary=b", "comma": b"Content-Type: multipart/mixed, boundary=b", "no semicolon": b"Content-Type: multipart/mixed boundary=b",
    "blanks": b"Content-Type: multipart/mixed ; boundary = b", "empty parameter": b"Content-Type: multipart/mixed;; boundary=b", "escaped": b'Content-Type: multipart/mixed; boundary="\\b"',
    "half quoted": b'Content-Type: multipart/mixed; boundary="b', "charset": b"Content-Type: multipart/mixed; charset=utf-7; boundary=b", "no boundary": b"Content-Type: multipart/mixed",
    "only the word": b"Content-Type: multipart; boundary=b", "slash": b"Content-Type: multipart/; boundary=b", "coded": b"Content-Type: multipart/mixed; boundary=b\r\nContent-Transfer-Encoding: base64",
    "related": b"Content-Type: multipart/related; type=text/html; boundary=b", "digest": b"Content-Type: multipart/digest; boundary=b", "none": b"Subject: x", "single": b"MIME-Version: 1.0",
}  # fmt: skip
LINES = {
    "": b"--b\r\n%s\r\n--b--\r\n", "blanks": b"--b  \r\n%s\r\n--b--  \r\n", "tab": b"--b\t\r\n%s\r\n--b--\r\n", "no end": b"--b\r\n%s\r\n", "end first": b"--b--\r\n--b\r\n%s\r\n--b--\r\n",
    "longer first": b"--bb\r\n\r\nx\r\n--b\r\n%s\r\n--b--\r\n", "more dashes": b"---b\r\n%s\r\n--b--\r\n", "text first": b"text\r\n--b\r\n%s\r\n--b--\r\n", "not at a line": b"x--b\r\n%s\r\n--b--\r\n",
    "junk behind": b"--b junk\r\n%s\r\n--b--\r\n", "empty part": b"--b\r\n--b\r\n%s\r\n--b--\r\n", "two": b"--b\r\n\r\nfine\r\n--b\r\n%s\r\n--b--\r\n", "behind the end": b"--b\r\n\r\nx\r\n--b--\r\n--b\r\n%s\r\n--b--\r\n",
    "end in the end": b"--b\r\n%s\r\n--b--x\r\n", "none": b"%s", "led by line": b"\r\n--b\r\n%s\r\n--b--\r\n", "upper": b"--B\r\n%s\r\n--B--\r\n",
    "nested": b"--b\r\nContent-Type: multipart/mixed; boundary=bb\r\n\r\n--bb\r\n%s\r\n--bb--\r\n--b--\r\n", "nested, same": b"--b\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n%s\r\n--b--\r\n--b--\r\n",
}  # fmt: skip
_LABELS = {
    "base64": b"base64", "upper": b"BASE64", "blanks": b"  base64  ", "comment": b"base64 (x)", "comment first": b"(x) base64", "semicolon": b"base64;", "quoted": b'"base64"', "folded": b"\r\n base64",
    "word": b"base64 x", "x": b"x-base64", "split": b"base 64", "qp": b"quoted-printable", "qp upper": b"Quoted-Printable", "uu": b"x-uuencode", "uue": b"uuencode", "7bit": b"7bit", "8bit": b"8bit",
    "binary": b"binary", "empty": b"", "unknown": b"gzip", "word folded": b"base64\r\n\tx", "equals": b"=?us-ascii?Q?base64?=", "parameter": b"base64; x=y",
}  # fmt: skip
LABELS = {
    "none": b"", **{name: b"Content-Transfer-Encoding: " + value + b"\r\n" for name, value in _LABELS.items()},
    "lower": b"content-transfer-encoding: base64\r\n", "blank before colon": b"Content-Transfer-Encoding : base64\r\n", "twice": b"Content-Transfer-Encoding: 7bit\r\nContent-Transfer-Encoding: base64\r\n",
    "twice, turned": b"Content-Transfer-Encoding: base64\r\nContent-Transfer-Encoding: 7bit\r\n", "underscores": b"Content_Transfer_Encoding: base64\r\n", "in a fold": b"X: y\r\n Content-Transfer-Encoding: base64\r\n",
    "led by blank": b" Content-Transfer-Encoding: base64\r\n", "behind a name": b'Content-Disposition: attachment; filename="a"\r\nContent-Transfer-Encoding: base64\r\n',
    "message": b"Content-Type: message/rfc822\r\n\r\nContent-Transfer-Encoding: base64\r\n", "message, coded": b"Content-Type: message/rfc822\r\nContent-Transfer-Encoding: base64\r\n",
    "partial": b"Content-Type: message/partial; id=x; number=1\r\n", "no colon": b"Content-Transfer-Encoding base64\r\n", "junk before": b"junk\r\nContent-Transfer-Encoding: base64\r\n",
}  # fmt: skip
CODED = {
    "base64": _B64, "flat": _FLAT, "no padding": _FLAT.rstrip(b"="), "more padding": _FLAT + b"==", "junk": _FLAT[:20] + b"*" + _FLAT[20:], "blanks": b" ".join(_FLAT[at : at + 4] for at in range(0, len(_FLAT), 4)),
    "blank lines": _B64.replace(b"\r\n", b"\r\n\r\n"), "text behind": _B64 + b"\r\nmore text!", "text before": b"text!\r\n" + _B64, "padding inside": base64.b64encode(EICAR[:1]) + base64.b64encode(EICAR[1:]),
    "two ends": base64.b64encode(EICAR[:31]) + b"\r\n" + base64.b64encode(EICAR[31:]), "url": _FLAT.replace(b"+", b"-").replace(b"/", b"_"), "dashes": _B64 + b"\r\n-- \r\nsignature",
    "plain": EICAR, "qp": _QP, "qp all": b"".join(b"=%02X" % one for one in EICAR), "qp lower": b"".join(b"=%02x" % one for one in EICAR), "qp soft": b"=\r\n".join(EICAR[at : at + 9].replace(b"=", b"=3D") for at in range(0, len(EICAR), 9)),
    "qp soft, blanks": b"= \t\r\n".join(EICAR[at : at + 9] for at in range(0, len(EICAR), 9)), "qp broken": b"=ZZ" + _QP, "qp ends": _QP + b"=", "uu": _UU, "uu behind text": b"see\r\n\r\n" + _UU, "uu no end": _UU[:-6],
}  # fmt: skip


def grid() -> Iterator[tuple[str, bytes]]:
    """Yield (name, message): labels against codings in an ordinary frame and alone, frames against an ordinary part."""
    part = b"Content-Transfer-Encoding: base64\r\n\r\n" + _B64
    for (label, field), (coded, body) in product(LABELS.items(), CODED.items()):
        yield f"part | {label} | {coded}", TYPES[""] + b"\r\n\r\n" + LINES[""] % (field + b"\r\n" + body)
        yield f"alone | {label} | {coded}", b"Subject: x\r\n" + field + b"\r\n" + body + b"\r\n"
    for (kind, field), (lines, form) in product(TYPES.items(), LINES.items()):
        yield f"frame | {kind} | {lines}", field + b"\r\n\r\n" + form % part
        yield (
            f"frame in a message | {kind} | {lines}",
            b"Content-Type: message/rfc822\r\n\r\n" + field + b"\r\n\r\n" + form % part,
        )


def readings(message: bytes) -> list[bytes]:
    """Return what a lenient reader finds in a message: Python's own, in its two manners."""
    found = []
    for manner in (policy.compat32, policy.default):
        for part in message_from_bytes(message, policy=manner).walk():
            try:
                content = part.get_payload(decode=True)
            except (LookupError, ValueError, AttributeError):
                continue
            if isinstance(content, bytes):
                found.append(content)
    return found
