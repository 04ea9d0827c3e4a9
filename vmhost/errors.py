"""The errors of this package: one root, each with a code and its parameters."""


class HostError(Exception):
    """Root of all errors raised by `vmhost`."""

    def __init__(self, code: str, message: str, **params: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.params = params
