"""Check digits of personal data."""

import re
from operator import sub

_NAME = re.compile(rb"[^=:]*(?::=|=>|[=:])[\t ]*")
# signs of program text, addresses, what waits to be replaced, names of members
_CODE = re.compile(rb"[][(){}<>$&;,\"'`|\\]|://|::|(?i:change[_-]?me)|^[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+$")
# a name that ends so has no secret for a value, only says where it is or what it is like
_OF_IT = re.compile(
    rb"(?i)(?:ur[il]|name|path|file|ref|id|header|algorithm|policy)[\"']?[\t ]*(?::?=|=>|:)[\t ]*\Z"
)
_OPENING = re.compile(rb"[=:>,][\t ]*\\*([\"'`])")
_LETTERS_OF_ONE_CASE = re.compile(rb"[0-9a-z]{20,}|[0-9A-Z]{20,}")
_FOURFOLD = re.compile(rb"(.)\1{3}", re.DOTALL)
# what stands in manuals in a secret's place: a row of one sign, the vendor's own example
_PLACEHOLDER = re.compile(rb"([xX*])\1{7}|(\S)\2{29}|AKIAIOSFODNN7EXAMPLE")
# and in a password's: a variable, what somebody has to fill in, a row of dots, the word itself
_NO_PASSWORD = re.compile(
    rb"\$[A-Z_][A-Z0-9_]*|\$[a-z_]*(?:pass|pw|secret|token|key)[a-z_]*|[$#%]?\{[^@]{1,80}\}|\$\([^@]{1,80}\)"
    rb"|[\[<][^@]{1,40}[]>]|%%?[(sS]?[A-Za-z_]{0,30}\)?s?%?|[xyz*.]{3,}"
    rb"|(?i:(?:(?:my|your|the|some|db|user|example)[_-]?)?(?:pass(?:word|wd|phrase)?|pwd|pw|secret|token|(?:api[_-]?)?key))"
)
# where the password stands in what the shipped patterns of this name match
PASSWORDS = {
    "url-password": re.compile(rb":(?P<password>[^:@]*)@[^@]*\Z"),
    "curl-user": re.compile(rb"(?:-u|--user)[ =]{1,3}[\"']?[^\s:\"']*:(?P<password>[^\s\"']*)[\s\"']?\Z"),
    "connection-string": re.compile(rb"(?i)(?:password|pwd)\s?=\s?(?P<password>[^\s\"'<>;&]*)[\s\"'<>;]\Z"),
}
_WORDS = re.compile(rb"[0-9A-Za-z_-]+")
_WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)
_IBAN_LENGTHS = {
    b"AD": 24, b"AE": 23, b"AL": 28, b"AT": 20, b"AZ": 28, b"BA": 20, b"BE": 16, b"BG": 22, b"BH": 22, b"BI": 27,
    b"BR": 29, b"BY": 28, b"CH": 21, b"CR": 22, b"CY": 28, b"CZ": 24, b"DE": 22, b"DJ": 27, b"DK": 18, b"DO": 28,
    b"EE": 20, b"EG": 29, b"ES": 24, b"FI": 18, b"FK": 18, b"FO": 18, b"FR": 27, b"GB": 22, b"GE": 22, b"GI": 23,
    b"GL": 18, b"GR": 27, b"GT": 28, b"HN": 28, b"HR": 21, b"HU": 28, b"IE": 22, b"IL": 23, b"IQ": 23, b"IS": 26,
    b"IT": 27, b"JO": 30, b"KW": 30, b"KZ": 20, b"LB": 28, b"LC": 32, b"LI": 21, b"LT": 20, b"LU": 20, b"LV": 21,
    b"LY": 25, b"MC": 27, b"MD": 24, b"ME": 22, b"MK": 19, b"MN": 20, b"MR": 27, b"MT": 31, b"MU": 30, b"NI": 28,
    b"NL": 18, b"NO": 15, b"OM": 23, b"PK": 24, b"PL": 28, b"PS": 29, b"PT": 25, b"QA": 29, b"RO": 24, b"RS": 22,
    b"RU": 33, b"SA": 24, b"SC": 31, b"SD": 18, b"SE": 24, b"SI": 19, b"SK": 24, b"SM": 27, b"SO": 23, b"ST": 25,
    b"SV": 28, b"TL": 23, b"TN": 24, b"TR": 26, b"UA": 29, b"VA": 22, b"VG": 24, b"XK": 20, b"YE": 30,
}  # fmt: skip


def luhn(match: bytes) -> bool:
    """Check a payment card's number (ISO/IEC 7812-1), separators allowed; all digits alike don't count."""
    digits = [one - 48 for one in match if 48 <= one <= 57]
    if not 13 <= len(digits) <= 19 or len(set(digits)) < 2:
        return False
    total = sum(
        one if place % 2 == 0 else sum(divmod(2 * one, 10)) for place, one in enumerate(reversed(digits))
    )
    return total % 10 == 0


def chinese_id(match: bytes) -> bool:
    """Check a Chinese resident identity number (GB 11643-1999): date and check character."""
    match = match.translate(None, b" -")
    month, day = int(match[10:12]), int(match[12:14])
    if not (1 <= month <= 12 and 1 <= day <= 31 and 1900 <= int(match[6:10]) <= 2099):
        return False
    rest = sum(weight * int(chr(one)) for weight, one in zip(_WEIGHTS, match[:17], strict=True)) % 11
    return match[17:18].upper() == b"10X98765432"[rest : rest + 1]


def iban(match: bytes) -> bool:
    """Check an IBAN (ISO 13616): length by country, and remainder 1 modulo 97."""
    text = re.sub(rb"[ -]", b"", match).upper()
    if _IBAN_LENGTHS.get(text[:2]) != len(text):
        return False
    return int("".join(str(int(chr(one), 36)) for one in text[4:] + text[:4])) % 97 == 1


def iban_first(match: bytes) -> bool:
    """Check the IBAN that a match begins with: groups behind it may be other words in capitals."""
    length, text = _IBAN_LENGTHS.get(match[:2], 0), b""
    for group in re.split(rb"[ -]", match):
        text += group
        if len(text) >= length:
            break
    return iban(text)


def us_ssn(match: bytes) -> bool:
    """Tell whether a US social security number can have been given out."""
    area, group, serial = (int(part) for part in match.split(b"-"))
    return area not in {0, 666} and area < 900 and group != 0 and serial != 0


def no_placeholder(match: bytes) -> bool:
    """Tell whether a match may be a secret: manuals show the form of one, and what is no secret."""
    return not _PLACEHOLDER.search(match)


def real_password(match: bytes, where: re.Pattern[bytes]) -> bool:
    """Tell the same of the password in a match, whatever stands before it and behind it."""
    found = where.search(match)
    password = found["password"] if found else match
    return no_placeholder(password) and not _NO_PASSWORD.fullmatch(password)


def mixed(match: bytes) -> bool:
    """Tell whether what stands in quotation marks looks random: many different characters, few in order, some digits; no path."""
    opened = _OPENING.search(match)
    if opened:  # up to the first mark that closes it: there may be others behind
        match = match[opened.end() :].split(opened[1], 1)[0]
    return _looks_random(re.split(rb"[\"'=:\s]+", match.rstrip(b"\"'`=\\\t )"))[-1])


def mixed_element(match: bytes) -> bool:
    """Tell whether what stands between the marks of an element looks random, and is no element's mark itself."""
    word = match.partition(b">")[2].rpartition(b"</")[0].strip()
    return b"<" not in word and b"${" not in word and _looks_random(word)


def mixed_token(match: bytes) -> bool:
    """Tell whether the longest word of a match looks random, and has no character four times in a row."""
    word = max(_WORDS.findall(match), key=len, default=b"")
    return _looks_random(word) and not _FOURFOLD.search(word)


def mixed_bare(match: bytes, name: bytes) -> bool:
    """Tell whether what no quotation marks enclose looks random: besides, it has no signs of program text.

    And it has capitals and small letters, or is long and has no other signs at all.

    `name` (in small letters) is what the match's own name holds; it may go on, but not to say that the value is none.
    """
    named = _NAME.match(match)
    begin = named.end() if named else 0
    word = match[begin:].strip()
    one_case = word.islower() or word.isupper()
    return (
        (not one_case or _LETTERS_OF_ONE_CASE.fullmatch(word) is not None)
        and _looks_random(word)
        and not _CODE.search(word)
        and not _OF_IT.search(match[:begin].lower().rpartition(name)[2])
    )


def _looks_random(word: bytes) -> bool:
    # the cheap questions first: text may be full of what looks like a password
    others = len(word.translate(None, b"0123456789"))
    if not 0 < others < len(word) or len(set(word)) < 10 or word.startswith(b"/"):
        return False
    steps = list(map(sub, word, word[1:]))
    return (steps.count(-1) + steps.count(0) + steps.count(1)) * 3 < len(word)
