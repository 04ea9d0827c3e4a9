"""Messages about connections, read back as the kernel reads them."""

from filters.netd import netlink as nl
from filters.netd.conntrack import Joined, delete_message, get_message, join_message, read_known
from filters.ruleset.names import HANDED_BIT, INSPECTED_BIT

CLIENT, SERVER = ("10.77.0.2", 40000), ("10.77.0.3", 5432)
MARK = INSPECTED_BIT | HANDED_BIT | 7


def _attributes(message: bytes) -> nl.Attributes:
    (one,) = nl.messages(message)
    return nl.attribute_map(one.payload, nl.NFGEN_LENGTH)


def _joined(to_server: int = 5, to_client: int = -3) -> nl.Attributes:
    far = CLIENT[0], 1024
    return _attributes(join_message(Joined(CLIENT, far, SERVER, 2048, MARK, to_server, to_client), 1))


def test_joined_connection_keeps_its_ends_and_leaves_by_the_port_the_server_knows() -> None:
    found = _joined()
    original = nl.attribute_map(found[1])
    assert nl.attribute_map(original[1]) == {1: bytes([10, 77, 0, 2]), 2: bytes([10, 77, 0, 3])}
    assert nl.attribute_map(original[2]) == {
        1: b"\x06",
        2: (40000).to_bytes(2, "big"),
        3: (5432).to_bytes(2, "big"),
    }
    ports = nl.attribute_map(nl.attribute_map(found[6])[3])
    assert ports == {1: (2048).to_bytes(2, "big"), 2: (2048).to_bytes(2, "big")}
    assert int.from_bytes(found[8], "big") == MARK


def test_sequence_numbers_are_moved_each_way_modulo_their_size() -> None:
    found = _joined(to_server=-1, to_client=(1 << 32) + 2)
    for kind, offset in ((15, 0xFFFF_FFFF), (16, 2)):
        moved = nl.attribute_map(found[kind])
        assert {int.from_bytes(moved[one], "big") for one in (2, 3)} == {offset}


def test_revoking_a_lease_deletes_what_was_handed_over_under_it() -> None:
    found = _attributes(delete_message(INSPECTED_BIT | 7, 1))
    mark, mask = (int.from_bytes(found[one], "big") for one in (8, 21))
    assert MARK & mask == mark


def test_reads_mark_and_the_port_that_the_server_sees() -> None:
    asked = _attributes(get_message(CLIENT, SERVER, 1))
    tuple_back = nl.nested(2, nl.nested(2, nl.attribute(3, (1025).to_bytes(2, "big"))))
    answer = bytes(nl.NFGEN_LENGTH) + nl.nested(1, asked[1]) + tuple_back + nl.u32(8, 9)
    known = read_known(answer)
    assert (known.mark, known.port) == (9, 1025)
