"""Which machines a lab can have: two in one place, or one in no place, are refused before anything is started."""

from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest

from vmhost.errors import HostError
from vmhost.lab.defaults import default_spec
from vmhost.names import Lab

GOOD = default_spec(Lab("l"), 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"peer": "gateway"}, "checked its peer: expected one that is free, got gateway, which gateway has"),
        ({"peer": "web"}, "checked its peer: .* got web, which web has"),
        ({"port": GOOD.gateway.port}, "checked its port: .* which gateway has"),
        ({"mac": GOOD.gateway.mac}, "checked its mac: .* which gateway has"),
        ({"ip": GOOD.peers[0].ip}, "checked its ip: .* which web has"),
        ({"port": "p" * 16}, "checked its port: expected an interface's name"),
        ({"port": "-p"}, "checked its port: expected an interface's name"),
        ({"port": "p\nlink del br0"}, "checked its port: expected an interface's name"),
        ({"port": "lo"}, "none of br0, lo, all, default, got 'lo'"),
        ({"port": "br0"}, "none of br0, lo, all, default, got 'br0'"),
        ({"port": "all"}, "none of br0, lo, all, default, got 'all'"),
        ({"ip": GOOD.network.broadcast_address}, "checked its ip: expected a host's in"),
        ({"ip": GOOD.network.network_address}, "checked its ip: expected a host's in"),
        ({"ip": IPv4Address("192.0.2.7")}, "checked its ip: expected a host's in"),
    ],
)
def test_rejects_a_machine_in_no_place_of_its_own(change: dict[str, Any], says: str) -> None:
    web, *others, last = GOOD.peers
    with pytest.raises(HostError, match=f"{says}.*nothing was started") as refused:
        replace(GOOD, peers=(web, *others, replace(last, **change)))
    assert refused.value.code == "bad-place"


def test_the_usual_labs_are_none_of_these() -> None:
    for count in (2, 3, 200):
        assert len(default_spec(Lab("l"), count).peers) == count
