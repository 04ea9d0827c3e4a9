"""Personal data with check digits, so that a number alone is no alarm."""

from filters.inspection.patterns.checksums import chinese_id, iban, luhn, us_ssn
from filters.inspection.patterns.pattern import Pattern

DETECTOR = "personal"

PERSONAL = (
    Pattern(
        "payment-card", DETECTOR, rb"\b[3-6][0-9]{3}(?:[ -]?[0-9]{4}){2}[ -]?[0-9]{1,7}\b",
        check=luhn, detail="a payment card's number",
    ),
    Pattern(
        "payment-card-amex", DETECTOR, rb"\b3[47][0-9]{2}[ -]?[0-9]{6}[ -]?[0-9]{5}\b",
        check=luhn, detail="a payment card's number",
    ),
    Pattern(
        "chinese-resident-id", DETECTOR, rb"\b[1-9][0-9]{5}(?:19|20)[0-9]{9}[0-9Xx]\b",
        check=chinese_id, detail="a Chinese resident identity number",
    ),
    Pattern(
        "iban", DETECTOR, rb"\b[A-Z]{2}[0-9]{2}(?:[ ]?[A-Z0-9]{4}){2,7}(?:[ ]?[A-Z0-9]{1,3})?\b",
        check=iban, detail="an international bank account number",
    ),
    Pattern(
        "us-ssn", DETECTOR, rb"(?:ssn|SSN|social security)[^0-9]{1,20}[0-9]{3}-[0-9]{2}-[0-9]{4}\b",
        keywords=(b"ssn", b"SSN", b"social security"), check=lambda match: us_ssn(match[-11:]),
        detail="a US social security number",
    ),
)  # fmt: skip
