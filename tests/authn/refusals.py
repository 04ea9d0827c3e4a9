"""Expect that evidence is refused by exactly this check."""

import pytest

from authn.errors import AttestationError
from authn.failure import AttestationFailure


def refused(failure: AttestationFailure) -> "pytest.RaisesExc[AttestationError]":
    return pytest.raises(AttestationError, check=lambda error: error.failure is failure)
