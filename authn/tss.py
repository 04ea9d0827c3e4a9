"""Load tpm2_pytss without `cryptography.x509`: two fifths of the time that loading it takes.

It imports X.509 for two functions that read certificates from files, which nothing of ours calls. Until somebody
does, two functions stand there that load the real ones when they are called. `authn.tpm` loads tpm2_pytss through
this; on an emulated processor it spares tpmd, agent and the opening of the state a fifth of their start.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

_NAME = "cryptography.x509"
_WANTED = ("load_pem_x509_certificate", "load_der_x509_certificate")


@contextmanager
def certificates_later() -> Iterator[None]:
    """Have `from cryptography.x509 import …` of these functions give stand-ins; at the end the real module can be imported."""
    if _NAME in sys.modules:
        yield
        return
    stand_in = ModuleType(_NAME)
    for name in _WANTED:
        setattr(stand_in, name, _later(name))
    sys.modules[_NAME] = stand_in
    try:
        yield
    finally:
        del sys.modules[_NAME]


def _later(name: str) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        return getattr(importlib.import_module(_NAME), name)(*arguments, **named)

    return call
