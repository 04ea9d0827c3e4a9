"""The errors of this package: one root, each with a code and its parameters."""


class GatewayError(Exception):
    """Root of all errors raised by `gateway`."""

    def __init__(self, code: str, message: str, **params: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.params = params


def in_words(error: Exception) -> str:
    """Say why a program ends, in one line: the error's code, where it has one, and what it says."""
    code, message = getattr(error, "code", ""), getattr(error, "message", str(error))
    return f"{code}: {message}" if code else message
