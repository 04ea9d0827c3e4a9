"""The exit statuses of `quotegate`: README.md lists them. 1 is an error, 2 wrong usage."""

from typing import Final

EXIT_OK: Final = 0
EXIT_DENIED: Final = 3
EXIT_FOUND: Final = 4
