"""The errors of this package: one root, each with a code and its parameters."""


class FiltersError(Exception):
    """Root of all errors raised by `filters`."""

    def __init__(self, code: str, message: str, **params: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.params = params


class PolicyError(FiltersError):
    """A policy file is refused; nothing that runs was changed. `params` has file, line and column."""


class NetdError(FiltersError):
    """The network daemon refused or could not carry out a request."""
