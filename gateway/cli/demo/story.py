"""Tell what happens and check it: narration, assertions, waiting."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from gateway.cli.output import say
from gateway.errors import GatewayError
from vmhost.errors import HostError


class StepFailed(GatewayError):
    """A step did not come out as it should."""


@dataclass(slots=True)
class Story:
    """The narration of one run. `patience_s`: how long something may take to come about."""

    patience_s: float = 15.0
    started: float = field(default_factory=time.monotonic)
    checks: int = 0

    @contextmanager
    def step(self, number: str, title: str) -> Iterator[None]:
        """Tell one step and how long it took."""
        say(f"\n[{number}] {title}")
        begun = time.monotonic()
        yield
        say(f"    step {number} is true ({time.monotonic() - begun:.1f} s)")

    def tell(self, text: str) -> None:
        """Say what happened."""
        say(f"    {time.monotonic() - self.started:6.2f} s  {text}")

    def check(self, holds: bool, text: str) -> None:
        """Assert something; raises StepFailed."""
        self.checks += 1
        if not holds:
            raise StepFailed("step-failed", f"NOT TRUE: {text}")
        self.tell(f"ok  {text}")

    def until(self, what: str, condition: Callable[[], Any], within_s: float | None = None) -> Any:
        """Wait for something; raises StepFailed when it does not come."""
        begun, patience = time.monotonic(), self.patience_s if within_s is None else within_s
        while time.monotonic() < begun + patience:
            try:
                if found := condition():
                    self.tell(f"ok  {what} (after {(time.monotonic() - begun) * 1000:.0f} ms)")
                    self.checks += 1
                    return found
            except (GatewayError, HostError):
                pass  # gateway or machine is away just now: that is often what is waited for
            time.sleep(0.02)
        raise StepFailed("step-failed", f"NOT TRUE within {patience:.0f} s: {what}")
