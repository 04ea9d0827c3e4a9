"""The errors of this package."""


class LinkError(Exception):
    """The other side says what can't be, or is gone."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
