"""Show what others say: it ends on somebody's terminal."""

MOST = 300


def shown(text: str) -> str:
    """Return text on one short line that acts on no terminal."""
    line = "".join(one if one.isprintable() else "?" for one in text[:MOST])
    return line + "…" if len(text) > MOST else line
