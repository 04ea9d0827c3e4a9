from collections.abc import Callable

import pytest

from filters.errors import NetdError
from filters.netd.arguments import Arguments
from tests.filters.ruleset import policies


def test_reads_what_the_client_sends() -> None:
    args = Arguments(
        {"ip": "10.0.0.2", "on": True, "expires_at": 5, "lease_id": 7, "ttl_ms": 1, "lease_ids": [1, 2]}
    )
    assert str(args.ip()) == "10.0.0.2"
    assert args.flag("on") is True
    assert args.time("expires_at") == 5.0
    assert (args.lease_id(), args.ttl_ms(), args.lease_ids()) == (7, 1, [1, 2])
    assert Arguments({"expires_at": None}).optional_time("expires_at") is None


def test_reads_a_policy() -> None:
    small = policies.small()
    assert Arguments({"compiled": small.to_json()}).policy() == small


READERS: dict[str, Callable[[Arguments], object]] = {
    "ip": Arguments.ip,
    "on": lambda args: args.flag("on"),
    "expires_at": lambda args: args.time("expires_at"),
    "lease_id": Arguments.lease_id,
    "lease_ids": Arguments.lease_ids,
    "ttl_ms": Arguments.ttl_ms,
    "hold_id": Arguments.hold_id,
    "key": Arguments.key,
    "compiled": Arguments.policy,
}


@pytest.mark.parametrize("name", READERS)
def test_rejects_missing_argument(name: str) -> None:
    with pytest.raises(NetdError, match="missing"):
        READERS[name](Arguments({}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ip", 5),
        ("ip", "10.0.0.256"),
        ("on", 1),
        ("expires_at", True),
        ("expires_at", float("nan")),
        ("expires_at", float("inf")),
        ("expires_at", -1),
        ("expires_at", "1"),
        ("lease_id", 0),
        ("lease_id", 1 << 32),
        ("lease_id", 1.0),
        ("lease_id", True),
        ("lease_ids", 7),
        ("lease_ids", [0]),
        ("ttl_ms", 0),
        ("ttl_ms", 10**12),
        ("hold_id", 0),
        ("key", "x"),
        ("compiled", []),
        ("compiled", {"revision": 1}),
    ],
)
def test_rejects_untrusted_value(name: str, value: object) -> None:
    with pytest.raises(NetdError) as refused:
        READERS[name](Arguments({name: value}))
    assert refused.value.code == "malformed"


def test_rejects_arguments_that_are_no_object() -> None:
    with pytest.raises(NetdError):
        Arguments([])
