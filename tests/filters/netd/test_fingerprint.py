from filters.netd import elements, netlink
from filters.netd.drift import dynamic_differences
from filters.netd.fingerprint import describe, differences, shorten
from filters.netd.nf_tables import KernelElement, Nft
from filters.ruleset.names import SetName
from tests.filters.ruleset import policies

A, B = policies.address(1), policies.address(2)


def chain(name: str, handle: int = 1, table: str = "quotegate") -> bytes:
    return bytes(4) + netlink.text(1, table) + netlink.u64(2, handle) + netlink.text(3, name)


def rule(name: str, expressions: bytes, handle: int = 1) -> bytes:
    head = bytes(4) + netlink.text(1, "quotegate") + netlink.text(2, name)
    return head + netlink.u64(3, handle) + netlink.attribute(4, expressions)


def test_handles_and_foreign_tables_do_not_count() -> None:
    one = describe({Nft.GETCHAIN: [chain("a", 1)], Nft.GETRULE: [rule("a", b"x", 1)]}, {})
    structure = {Nft.GETCHAIN: [chain("a", 9), chain("b", 1, "foreign")], Nft.GETRULE: [rule("a", b"x", 7)]}
    assert differences(one, describe(structure, {})) == []


def test_names_what_changed() -> None:
    before = describe({Nft.GETCHAIN: [chain("a"), chain("b")], Nft.GETRULE: [rule("a", b"x")]}, {})
    after = describe({Nft.GETCHAIN: [chain("a"), chain("c")], Nft.GETRULE: [rule("a", b"y")]}, {})
    assert differences(before, after) == [
        "chain b is missing",
        "chain c is foreign",
        "rules of chain a changed",
    ]


def test_order_of_rules_counts() -> None:
    one = describe({Nft.GETRULE: [rule("a", b"x"), rule("a", b"y")]}, {})
    other = describe({Nft.GETRULE: [rule("a", b"y"), rule("a", b"x")]}, {})
    assert differences(one, other) == ["rules of chain a changed"]


def test_static_elements_count_and_their_order_does_not() -> None:
    x, y = KernelElement(b"", b"", None, b"x"), KernelElement(b"", b"", None, b"y")
    one = describe({}, {SetName.PINS: [x, y]})
    assert differences(one, describe({}, {SetName.PINS: [y, x]})) == []
    assert differences(one, describe({}, {SetName.PINS: [x]})) == ["elements of pins changed"]


def test_rejects_a_table_whose_flags_changed() -> None:
    """Nothing else of a dormant table differs, and nothing of it filters."""
    awake, dormant = (
        describe({Nft.GETTABLE: [bytes(4) + netlink.text(1, "quotegate") + netlink.u32(2, flags)]}, {})
        for flags in (0, 1)
    )
    assert differences(awake, dormant) == ["table quotegate changed"]


def test_missing_table() -> None:
    assert differences({"chain a": (b"",)}, {}) == ["the table is missing"]
    assert differences({}, {}) == []


def test_detail_is_bounded() -> None:
    assert shorten([str(n) for n in range(10)]).endswith("; and 2 more")


def kernel(key: bytes, remaining_ms: int | None, data: bytes = b"") -> KernelElement:
    return KernelElement(key, data, remaining_ms, b"")


def test_dynamic_sets_as_expected() -> None:
    found = {SetName.TRUSTED: [kernel(A.packed, 390), kernel(B.packed, 50)], SetName.LIVE: []}
    # B has just run out for us; the lease has so little left that the kernel may be ahead
    expected = [elements.trusted(A, 395), elements.live(7, 60)]
    assert dynamic_differences(found, expected) == []


def test_foreign_trust_is_seen() -> None:
    found = {SetName.TRUSTED: [kernel(A.packed, 5000)]}
    assert dynamic_differences(found, []) == ["1 foreign or altered in trusted"]


def test_prolonged_trust_is_seen() -> None:
    found = {SetName.TRUSTED: [kernel(A.packed, 5000)]}
    assert dynamic_differences(found, [elements.trusted(A, 400)]) == ["1 foreign or altered in trusted"]


def test_trust_made_permanent_is_seen() -> None:
    found = {SetName.TRUSTED: [kernel(A.packed, None)]}
    assert dynamic_differences(found, [elements.trusted(A, 400)]) == ["1 foreign or altered in trusted"]


def test_removed_quarantine_is_seen() -> None:
    assert dynamic_differences({}, [elements.quarantined(A)]) == ["1 missing in quarantined"]
