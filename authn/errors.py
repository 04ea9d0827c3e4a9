"""The errors of this package: one root, each with a code and its parameters."""

from authn.failure import AttestationFailure


class AuthnError(Exception):
    """Root of all errors raised by `authn`."""

    def __init__(self, code: str, message: str, **params: object) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.params = params


class AttestationError(AuthnError):
    """Evidence was refused; `failure` names the check, `params` what was expected and what came."""

    def __init__(self, failure: AttestationFailure, message: str, **params: object) -> None:
        super().__init__(failure.value, message)
        self.params = params
        self.failure = failure


class TpmError(AuthnError):
    """A TPM command failed or the TPM is not reachable."""
