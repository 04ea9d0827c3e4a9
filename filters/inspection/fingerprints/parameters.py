"""The numbers that fingerprints stand on. A set's file names its version, and the version fixes the first two."""

from typing import Final

GRAM: Final = 32  # bytes in one fragment: long enough that ordinary phrases seldom repeat one
WINDOW: Final = 32  # of so many fragments in a row at least one is kept (winnowing)
RUN: Final = (
    512  # what is shared for so many bytes in a row is recognised: (RUN - GRAM + 1) // WINDOW = 15 are kept
)
NEEDED: Final = 8  # so many different ones of a document, near each other, are an alarm: a spare of 7
NEAR: Final = 4096  # bytes: what "near each other" means, so that edits and quotation marks between them don't hide a text
LEAST: Final = 4  # a document with fewer fragments can't be told from chance
VARIED: Final = (
    9  # a fragment with fewer different byte values (blanks, zeros, rulers, tables of 0 and 1) says nothing
)
REACH: Final = GRAM + WINDOW - 2  # bytes before the next one that a decision about it looks back at
