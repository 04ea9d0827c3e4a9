from ipaddress import IPv4Address

import pytest

from filters.errors import NetdError
from filters.flow import FlowKey, Protocol, Service
from filters.netd.book import Book, Lease, remaining_ms
from filters.ruleset.names import MapName, SetName
from tests.filters.ruleset import policies

A, B = policies.address(1), policies.address(2)
DB = FlowKey(A, B, Service(Protocol.TCP, 5432))
ECHO = FlowKey(A, B, Service(Protocol.ICMP, 0))


def test_rejects_id_in_force() -> None:
    book = Book()
    book.put(Lease(7, DB, 10.0))
    with pytest.raises(NetdError, match="in force"):
        book.check_free(7)


def test_lease_is_gone_after_its_time() -> None:
    book = Book()
    book.put(Lease(7, DB, 10.0))
    assert book.get(7, 9.9).key == DB
    with pytest.raises(NetdError):
        book.get(7, 10.0)
    assert book.prune(10.0) == [7]
    assert book.prune(10.0) == []
    assert (book.leases, book.by_key) == ({}, {})


def test_renewed_lease_outlives_its_first_time() -> None:
    book = Book()
    book.put(Lease(7, DB, 10.0))
    book.put(Lease(7, DB, 20.0))
    assert book.prune(15.0) == []
    assert book.get(7, 15.0).expires_at == 20.0
    assert book.prune(20.0) == [7]
    assert book.leases == {}


def test_newest_grant_holds_the_key_and_renewal_of_the_older_does_not_take_it_back() -> None:
    book = Book()
    book.put(Lease(8, DB, 10.0))
    book.put(Lease(7, DB, 10.0))
    book.put(Lease(8, DB, 20.0))
    holder = book.holder(DB, 1.0)
    assert holder is not None
    assert holder.lease_id == 7
    assert [one.place for one in book.lease_elements(book.leases[8], 1.0)] == [SetName.LIVE]
    assert {one.place for one in book.lease_elements(book.leases[7], 1.0)} == {SetName.LIVE, MapName.LEASE}


def test_striking_the_older_leaves_the_key_to_the_newer() -> None:
    book = Book()
    book.put(Lease(7, DB, 10.0))
    book.put(Lease(8, DB, 10.0))
    book.strike(7)
    book.strike(7)
    assert book.by_key == {DB: 8}


def test_names_what_a_policy_takes_away() -> None:
    book = Book()
    book.put(Lease(7, DB, 10.0))
    book.trusted[A] = 10.0
    assert book.unpermitted(policies.small()) == []
    assert [lease.lease_id for lease in book.unpermitted(policies.empty())] == [7]
    assert book.unpinned(policies.empty()) == [A]


def test_builds_all_that_is_in_force() -> None:
    book = Book(trusted={A: 10.0, B: 1.0}, quarantined={B}, authority_until=10.0)
    book.put(Lease(7, ECHO, 10.0))
    book.put(Lease(8, DB, 1.0))
    elements = book.all_elements("eth0", 2.0)
    assert {one.place for one in elements} == {
        SetName.TRUSTED,
        SetName.QUARANTINED,
        SetName.AUTHORITY,
        SetName.AUTHORITY_HAD,
        SetName.LIVE,
        MapName.LEASE_ICMP,
    }
    assert {one.timeout_ms for one in elements} == {8000, None}


def test_expired_authority_leaves_its_trace() -> None:
    book = Book(authority_until=1.0)
    assert [one.place for one in book.all_elements("eth0", 2.0)] == [SetName.AUTHORITY_HAD]


def test_forgets_trust_but_not_quarantine() -> None:
    book = Book(trusted={A: 10.0}, quarantined={B}, authority_until=10.0)
    book.put(Lease(7, DB, 10.0))
    book.forget_trust()
    assert [one.place for one in book.all_elements("eth0", 2.0)] == [SetName.QUARANTINED]


def test_no_time_left_is_never_for_ever() -> None:
    assert remaining_ms(1.0, 1.0) == 1
    assert remaining_ms(1.0, 5.0) == 1
    assert remaining_ms(1.5, 1.0) == 500


def test_addresses_are_v4() -> None:
    assert isinstance(A, IPv4Address)
