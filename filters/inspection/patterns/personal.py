"""Personal data with check digits, so that a number alone is no alarm."""

import re

from filters.inspection.patterns.checksums import chinese_id, iban_first, luhn, us_ssn
from filters.inspection.patterns.pattern import Pattern

DETECTOR = "personal"
# one number in ten has a right check digit: those inside boundaries, ids and fractions are no card's
# binary lengths and other writings than ASCII are bounds
_BEFORE = rb"(?:^|[\x00-\x20\"'<>,:;|(\[{`*#\x80-\xff]|[0-9A-Za-z\]]=|%20|%3D)"
_DIGITS_BEFORE = re.compile(rb"[0-9]=|%20|%3D")


def _card(match: bytes) -> bool:
    return luhn(_DIGITS_BEFORE.sub(b"", match, count=1))


PERSONAL = (
    Pattern(
        "payment-card", DETECTOR, _BEFORE + rb"(?:4[0-9]{3}|5[1-5][0-9]{2}|2[2-7][0-9]{2}|6011|6[245][0-9]{2}|35[2-8][0-9])(?:[ -]?[0-9]{4}){3}\b",
        check=_card, detail="a payment card's number",
    ),
    Pattern(
        "payment-card-19", DETECTOR, _BEFORE + rb"62[0-9]{2}(?:[ -]?[0-9]{4}){3}[ -]?[0-9]{3}\b",
        check=_card, detail="a payment card's number (UnionPay, 19 digits)",
    ),
    Pattern(
        "payment-card-amex", DETECTOR, _BEFORE + rb"3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5}\b",
        check=_card, detail="a payment card's number",
    ),
    Pattern(
        "payment-card-diners", DETECTOR, _BEFORE + rb"3(?:0[0-5]|[689][0-9])[0-9][ -]?[0-9]{6}[ -]?[0-9]{4}\b",
        check=_card, detail="a payment card's number",
    ),
    Pattern(
        "chinese-resident-id", DETECTOR, rb"\b[1-9][0-9]{5}[ -]?(?:19|20)[0-9]{6}[ -]?[0-9]{3}[0-9Xx]\b",
        check=chinese_id, detail="a Chinese resident identity number",
    ),
    Pattern(
        "iban", DETECTOR, rb"\b[A-Z]{2}[0-9]{2}(?:[ -]?[A-Z0-9]{4}){2,7}(?:[ -]?[A-Z0-9]{1,3})?\b",
        check=iban_first, detail="an international bank account number",
    ),
    Pattern(
        "us-ssn", DETECTOR, rb"(?:ssn|SSN|social security)[^0-9]{1,20}[0-9]{3}-[0-9]{2}-[0-9]{4}\b",
        keywords=(b"ssn", b"SSN", b"social security"), check=lambda match: us_ssn(match[-11:]),
        detail="a US social security number",
    ),
)  # fmt: skip
