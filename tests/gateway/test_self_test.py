"""What keeps an updated gateway from counting as good, check by check. The quote is a real TPM's."""

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.event_log import LogEvent, build_event_log
from authn.handshake_messages import BatchQuote
from authn.profile import Profile
from authn.public_area import AttestationKey
from authn.reference import ReferenceEvent, ReferenceSet
from authn.signing import key_id
from authn.tpm import Tpm
from filters.errors import NetdError
from gateway.daemon.self_test import run_self_test
from gateway.events.model import GatewayProved
from tests.authn.dialogue import batch
from tests.tpms import running_swtpm

KEY, OTHER = (Ed25519PrivateKey.from_private_bytes(one * 32) for one in (b"k", b"o"))
PUBLIC = KEY.public_key().public_bytes_raw()
PROFILE = Profile.of("gateway", {4: "gateway-pcr4"})
MEASURED = os.urandom(32)
NAMES = ["rules", "inspector", "quote"]


class Gateway:
    """The parts of the service that the self-test looks at, all well."""

    def __init__(self, tpm: Tpm, directory: Path) -> None:
        identity = tpm.provision()
        self._tpm, self._directory = tpm, directory
        self.differences: list[str] | NetdError = []
        self.inspectors_known: list[dict[str, object]] = [{"confined": ["landlock 3", "seccomp"]}]
        self.recorded: list[object] = []
        self.records = True
        (directory / "log").write_bytes(build_event_log([LogEvent(4, 0x0D, MEASURED, b"image")]))
        self.setup = SimpleNamespace(
            gateway_profile=PROFILE,
            event_log=directory / "log",
            own_references=None,
            reference_keys={key_id(PUBLIC): PUBLIC},
        )
        self.key = AttestationKey.from_public(identity.ak_public, identity.ek_public)
        self.references = (self._set(MEASURED),)
        self.netd = self.tpm = self.recorder = self
        self.inspectors = SimpleNamespace(describe=lambda: self.inspectors_known)
        self.spool = SimpleNamespace(head=(0, bytes(32)))
        self.changer = SimpleNamespace(closed="")
        self.clock = SimpleNamespace(wall=time.time)

    @staticmethod
    def _set(digest: bytes, version: int = 1) -> ReferenceSet:
        return ReferenceSet(version, time.time() + 60, {"gateway-pcr4": (ReferenceEvent("image", digest),)})

    def own(self, digest: bytes, key: Ed25519PrivateKey = KEY) -> None:
        """Give it a set of its own, as an update has one."""
        self.setup.own_references = self._directory / "own"
        self.setup.own_references.write_bytes(self._set(digest, 2).sign(key))

    async def read_back(self) -> list[str]:
        if isinstance(self.differences, NetdError):
            raise self.differences
        return self.differences

    async def quote_handshake(self, leaf: bytes) -> BatchQuote:
        return batch(self._tpm, [leaf], 0, PROFILE.selection)

    async def record(self, event: object) -> None:
        self.recorded.append(event)
        if self.records:
            self.spool.head = (len(self.recorded), bytes(32))

    def failures(self) -> dict[str, str]:
        """Run the self-test; return what failed."""
        service: Any = self
        self.checks = asyncio.run(run_self_test(service))
        return {one.name: one.detail for one in self.checks if not one.passed}

    def pending(self) -> list[str]:
        """Which checks of the last run may pass yet."""
        return [one.name for one in self.checks if one.pending]


@pytest.fixture(scope="module")
def tpm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tpm]:
    with running_swtpm(tmp_path_factory.mktemp("tpm")) as tcti, Tpm(tcti) as one:
        one.extend(4, MEASURED)
        yield one


@pytest.fixture
def gateway(tpm: Tpm, tmp_path: Path) -> Gateway:
    return Gateway(tpm, tmp_path)


def test_a_good_gateway_passes_and_that_is_on_record(gateway: Gateway) -> None:
    assert gateway.failures() == {}
    assert gateway.recorded == [GatewayProved(("rules", "inspector", "quote"))]


def test_it_is_judged_by_the_set_that_its_peers_get(gateway: Gateway) -> None:
    gateway.references = ()
    gateway.own(MEASURED)
    assert gateway.failures() == {}


def failed(gateway: Gateway, check: str) -> str:
    failures = gateway.failures()
    assert list(failures) == [check]
    assert gateway.recorded == []
    return failures[check]


def test_rejects_ruleset_that_is_not_the_policys(gateway: Gateway) -> None:
    gateway.differences = ["rules of chain guard changed"]
    assert "rules of chain guard changed" in failed(gateway, "rules")


def test_rejects_ruleset_that_was_never_loaded(gateway: Gateway) -> None:
    gateway.differences = NetdError("no-policy", "no policy is loaded")
    assert failed(gateway, "rules") == "no policy is loaded"
    assert gateway.pending() == ["rules"]


def test_rejects_image_that_does_not_take_the_stored_policy(gateway: Gateway) -> None:
    gateway.changer.closed = "revision 3:7:1: no such word"
    assert "no such word" in failed(gateway, "rules")
    assert gateway.pending() == []


def test_rejects_netd_that_is_gone(gateway: Gateway) -> None:
    gateway.differences = NetdError("gone", "the connection to netd ended")
    assert "gone" in failed(gateway, "rules")
    assert gateway.pending() == []


def test_rejects_dead_inspector(gateway: Gateway) -> None:
    gateway.inspectors_known = []
    assert failed(gateway, "inspector") == "no inspector is here"
    assert gateway.pending() == ["inspector"]


@pytest.mark.parametrize(
    ("by", "missing"),
    [(["seccomp"], "landlock"), ([], "landlock and seccomp"), ("landlock seccomp", "landlock and seccomp")],
)
def test_rejects_inspector_that_is_not_confined(gateway: Gateway, by: object, missing: str) -> None:
    gateway.inspectors_known.append({"confined": by})
    assert failed(gateway, "inspector") == f"an inspector is not confined by {missing}"
    assert gateway.pending() == []


def test_rejects_quote_over_other_pcrs_than_the_log_says(gateway: Gateway) -> None:
    log = build_event_log([LogEvent(4, 0x0D, os.urandom(32), b"image")])
    gateway.setup.event_log.write_bytes(log)
    assert "pcr-mismatch" in failed(gateway, "quote")


def test_rejects_quote_by_another_key(gateway: Gateway, tmp_path: Path) -> None:
    with running_swtpm(tmp_path / "other") as tcti, Tpm(tcti) as other:
        identity = other.provision()
        gateway.key = AttestationKey.from_public(identity.ak_public, identity.ek_public)
        assert failed(gateway, "quote")


def test_rejects_image_that_peers_would_refuse(gateway: Gateway) -> None:
    gateway.own(os.urandom(32))
    assert "reference-mismatch" in failed(gateway, "quote")


def test_rejects_reference_set_that_peers_would_refuse(gateway: Gateway) -> None:
    gateway.own(MEASURED, OTHER)
    assert "wrong-key" in failed(gateway, "quote")


def test_rejects_event_log_that_is_gone(gateway: Gateway) -> None:
    gateway.setup.event_log.unlink()
    assert failed(gateway, "quote")


def test_rejects_record_that_does_not_grow(gateway: Gateway) -> None:
    gateway.records = False
    assert list(gateway.failures()) == ["record"]
