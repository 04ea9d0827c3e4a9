"""The errors of this package: one root, each with a code, its parameters and who should read it."""

from typing import Literal

Audience = Literal["user", "operator"]


class GatewayError(Exception):
    """Root of all errors raised by `gateway`."""

    def __init__(self, code: str, message: str, *, audience: Audience = "operator", **params: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.params = params
        self.audience = audience
