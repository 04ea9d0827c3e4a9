import sys
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from filters.flow import FlowKey, Protocol, Service
from filters.netd import elements
from filters.netd.element_text import add_text, remove_text
from filters.ruleset.names import MapName

A, B = IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3")
DB = FlowKey(A, B, Service(Protocol.TCP, 5432))
ECHO = FlowKey(A, B, Service(Protocol.ICMP, 0))


def test_lease_key_pads_every_member_to_four_bytes() -> None:
    assert elements.lease_key(DB).hex() == "0a0000020a000003" + "06000000" + "15380000"
    assert elements.lease_key(ECHO).hex() == "0a0000020a000003"


def test_mark_is_in_host_order() -> None:
    assert elements.mark(7) == (7).to_bytes(4, sys.byteorder)
    assert elements.read_mark(elements.mark(0xFFFFFFFF)) == 0xFFFFFFFF


def test_interface_key_is_sixteen_bytes() -> None:
    assert elements.interface_key("eth0") == b"eth0" + bytes(12)


@given(st.ip_addresses(v=4), st.ip_addresses(v=4), st.sampled_from(Protocol), st.integers(0, 65535))
def test_lease_keys_round_trip(
    source: IPv4Address, destination: IPv4Address, protocol: Protocol, port: int
) -> None:
    key = FlowKey(source, destination, Service(protocol, 0 if protocol is Protocol.ICMP else port))
    assert elements.read_lease_key(elements.lease_key(key)) == key


def test_rejects_timeout_that_means_for_ever() -> None:
    with pytest.raises(ValueError, match="at least 1 ms"):
        elements.trusted(A, 0)


def test_echo_lives_in_its_own_map() -> None:
    assert elements.lease(ECHO, 1, 1).place is MapName.LEASE_ICMP
    assert elements.lease(DB, 1, 1).place is MapName.LEASE


def test_writes_nft_text() -> None:
    some = [
        elements.trusted(A, 400),
        elements.trusted(B, 400),
        elements.quarantined(B),
        elements.authority("eth0", 5),
        elements.live(7, 9),
        elements.lease(DB, 7, 9),
        elements.lease(ECHO, 8, 9),
    ]
    assert add_text(some) == (
        "add element inet quotegate trusted { 10.0.0.2 timeout 400ms, 10.0.0.3 timeout 400ms }\n"
        "add element inet quotegate quarantined { 10.0.0.3 }\n"
        'add element inet quotegate authority { "eth0" timeout 5ms }\n'
        "add element inet quotegate live { 0x7 timeout 9ms }\n"
        "add element inet quotegate lease { 10.0.0.2 . 10.0.0.3 . tcp . 5432 timeout 9ms : 0x7 }\n"
        "add element inet quotegate lease_icmp { 10.0.0.2 . 10.0.0.3 timeout 9ms : 0x8 }\n"
    )
    assert remove_text(some[:1]) == (
        "add element inet quotegate trusted { 10.0.0.2 timeout 400ms }\n"
        "delete element inet quotegate trusted { 10.0.0.2 }\n"
    )
    assert add_text([]) == remove_text([]) == ""
