"""The errors of this package: one root, each with a code, its parameters and who should read it."""

from typing import Literal

from authn.failure import AttestationFailure

Audience = Literal["user", "operator"]


class AuthnError(Exception):
    """Root of all errors raised by `authn`."""

    def __init__(self, code: str, message: str, *, audience: Audience = "operator", **params: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.params = params
        self.audience = audience


class AttestationError(AuthnError):
    """Evidence was refused; `failure` names the check, `params` what was expected and what came."""

    def __init__(self, failure: AttestationFailure, message: str, **params: object) -> None:
        super().__init__(failure.value, message)
        self.params = params
        self.failure = failure


class TpmError(AuthnError):
    """A TPM command failed or the TPM is not reachable."""
