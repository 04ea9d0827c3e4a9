"""What the monitor asks of a guest, whether it is a namespace or a virtual machine."""

from typing import Protocol

from authn.tpm import TpmIdentity


class Guest(Protocol):
    """One guest. The verbs block; each is whole: a failure leaves it off."""

    name: str

    def identify(self) -> TpmIdentity:
        """Return the keys of its TPM."""

    def boot(self) -> None:
        """Start it from a TPM that has just been powered on."""

    def power_off(self) -> None:
        """End it, its TPM included."""

    def pids(self) -> dict[str, int]:
        """Return what runs, by name."""
