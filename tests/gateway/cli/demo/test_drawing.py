"""What a seed draws: always the same, and a policy that speaks of it."""

from dataclasses import replace
from pathlib import Path

import pytest

from filters.policy.parser import parse_policy
from gateway.cli.demo.drawing import draw
from vmhost.lab.defaults import as_vms
from vmhost.names import Lab
from vmhost.spec import BEACON_INTERVAL_MS

LAB = Lab("drawn")


def test_a_seed_draws_the_same_again() -> None:
    (spec, cast), (again, same) = draw(LAB, 7), draw(LAB, 7)
    assert cast == same != draw(LAB, 8)[1]
    uuids = {one.peer: one.uuid for one in spec.peers}
    assert spec.peers == tuple(replace(one, uuid=uuids[one.peer]) for one in again.peers)


@pytest.mark.parametrize("seed", range(5))
def test_the_policy_has_the_rules_of_the_steps(seed: int) -> None:
    spec, cast = draw(LAB, seed)
    policy = parse_policy(spec.policy_text, "drawn")
    assert set(policy.peers) == {cast.a, cast.b, cast.c}
    ports = (cast.request_port, cast.demand_port, cast.inspected_port)
    assert sorted(one.first for rule in policy.rules for one in rule.services) == sorted(ports)
    assert cast.forbidden_port not in ports
    assert spec.beacon_interval_ms == BEACON_INTERVAL_MS


def test_with_virtual_machines_nobody_looks_on_and_images_are_to_be_proved() -> None:
    drawn, cast = draw(LAB, 7, bystander=False)
    spec = as_vms(drawn, Path("/images"))
    policy = parse_policy(spec.policy_text, "drawn")
    assert (set(policy.peers), cast.c) == ({cast.a, cast.b}, "")
    (profile,) = policy.profiles.values()
    assert profile.pcrs[9] == "guest-pcr9"
    assert spec.gateway_vm
    assert spec.beacon_interval_ms > BEACON_INTERVAL_MS
