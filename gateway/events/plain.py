"""Write text from elsewhere so that whoever reads it sees it, and no terminal obeys it. Pure."""

import re

# control characters, line and paragraph separators, what turns the direction of writing, halves of characters
_OBEYED = r"\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_IN_A_LINE = re.compile(f"[{_OBEYED}]")
_IN_LINES = re.compile(rf"(?![\n\t]|\r\n)[{_OBEYED}]")


def escaped(text: str) -> str:
    """Return one line: what a terminal would obey is written as JSON writes it, everything else as it is."""
    return _IN_A_LINE.sub(_escape, text)


def escaped_lines(text: str) -> str:
    """Do the same for text whose line breaks and tabs are our own."""
    return _IN_LINES.sub(_escape, text)


def shortened(text: str, at_most: int) -> str:
    """Return at most so many characters of one line, escaped, and say how many are missing."""
    line = escaped(text)
    return line if len(line) <= at_most else f"{line[:at_most]}… ({len(line) - at_most} more characters)"


def _escape(found: re.Match[str]) -> str:
    return f"\\u{ord(found.group()):04x}"
