"""Golden rulesets: a change of the compiler is reviewed as a change of these files.

`QUOTEGATE_UPDATE_GOLDEN=1 pytest tests/filters/ruleset/test_compiler.py` writes them anew.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from filters.errors import PolicyError
from filters.policy.compiled import CompiledPolicy
from filters.reason import DropReason
from filters.ruleset.compiler import compile_policy_update, compile_ruleset
from filters.ruleset.features import Features
from filters.ruleset.names import DYNAMIC, RULESET_REASONS, STATIC_SETS, ChainName, drop_chain
from filters.ruleset.sets import MAX_PEERS
from tests.filters.ruleset import policies

GOLDEN = Path(__file__).parent / "golden"
CASES: dict[str, Callable[[], CompiledPolicy]] = {
    "empty": policies.empty,
    "small": policies.small,
    "twenty": policies.twenty,
}
VARIANTS = {
    "native": Features(native_queue=True, timeout_update=True, handover=True),
    "xt": Features(native_queue=False, timeout_update=False, handover=True),
}


def check_golden(name: str, text: str) -> None:
    path = GOLDEN / name
    if os.environ.get("QUOTEGATE_UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    assert text == path.read_text()


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("case", CASES)
def test_ruleset_is_golden(case: str, variant: str) -> None:
    check_golden(f"{case}-{variant}.nft", compile_ruleset(CASES[case](), VARIANTS[variant]))


@pytest.mark.parametrize("case", CASES)
def test_policy_update_is_golden(case: str) -> None:
    check_golden(f"{case}-update.nft", compile_policy_update(CASES[case](), VARIANTS["xt"]))


def test_order_of_the_policy_does_not_matter() -> None:
    ordered = policies.twenty()
    reverse = replace(
        ordered,
        pins=ordered.pins[::-1],
        allowed=ordered.allowed[::-1],
        denied=ordered.denied[::-1],
    )
    assert compile_ruleset(reverse, VARIANTS["xt"]) == compile_ruleset(ordered, VARIANTS["xt"])


def test_update_names_every_static_set_and_no_dynamic_one() -> None:
    words = compile_policy_update(policies.small(), VARIANTS["xt"]).split()
    assert all(name in words for name in STATIC_SETS)
    assert not any(name in words for name in DYNAMIC)


def test_only_the_queues_differ_between_kernels() -> None:
    native, xt = (compile_ruleset(policies.small(), VARIANTS[name]).splitlines() for name in ("native", "xt"))
    differences = [
        (one.strip(), other.strip()) for one, other in zip(native, xt, strict=True) if one != other
    ]
    assert differences == [
        ("queue num 17", "goto drop_hold_timeout"),
        ("queue num 18", "goto drop_inspector_down"),
    ]


def test_queue_is_never_bypassed() -> None:
    assert "bypass" not in compile_ruleset(policies.small(), VARIANTS["native"])


@pytest.mark.parametrize("reason", RULESET_REASONS)
def test_reason_has_counter_chain_and_log_prefix(reason: DropReason) -> None:
    text = compile_ruleset(policies.empty(), VARIANTS["xt"])
    assert text.count(f'counter name "{drop_chain(reason)}"') == 1
    assert text.count(f'log prefix "qg {reason} "') == 1
    assert text.count(f"goto {drop_chain(reason)}") >= 1


def test_nothing_drops_outside_the_counted_chains() -> None:
    chain = ""
    for line in compile_ruleset(policies.small(), VARIANTS["xt"]).splitlines():
        words = line.split()
        if words[:1] == ["chain"]:
            chain = words[1]
        if words[-1:] == ["drop"] or words[:1] == ["reject"]:
            # what the server of an inspected connection refused is no drop of the gateway's
            assert chain.startswith("drop_") or chain == ChainName.REFUSED_BY_SERVER, line


@pytest.mark.parametrize("compiler", [compile_ruleset, compile_policy_update])
def test_rejects_more_peers_than_the_sets_keep_apart(compiler: Callable[..., str]) -> None:
    pins = tuple(replace(policies.pin(1), ip=policies.address(one)) for one in range(1, MAX_PEERS + 2))
    compiler(replace(policies.empty(), pins=pins[:-1]), VARIANTS["xt"])
    with pytest.raises(PolicyError, match=r"at most 4096 peers.* got 4097: divide them") as refused:
        compiler(replace(policies.empty(), pins=pins), VARIANTS["xt"])
    assert refused.value.code == "too-many-peers"


def test_rejects_interface_name_with_nft_syntax() -> None:
    with pytest.raises(PolicyError, match="interface"):
        compile_ruleset(replace(policies.small(), interface='eth0" }; flush ruleset'), VARIANTS["xt"])


def test_rejects_mac_with_nft_syntax() -> None:
    bad = replace(policies.pin(1), mac="52:54:00:aa:00:01 . 10.77.0.9, ")
    with pytest.raises(PolicyError, match="MAC"):
        compile_policy_update(replace(policies.small(), pins=(bad,)), VARIANTS["xt"])
