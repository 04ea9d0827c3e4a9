from filters.netd.tally import Tally
from filters.reason import DropReason


def test_counts_on_when_the_table_is_replaced() -> None:
    tally = Tally()
    tally.update({"drop_no_rule": 5})
    tally.update({"drop_no_rule": 7})
    tally.update({"drop_no_rule": 2})
    assert tally.total({})[DropReason.NO_RULE] == 9


def test_rejects_a_replaced_tables_counts_as_the_formers() -> None:
    tally = Tally()
    tally.update({"drop_no_rule": 5})
    tally.begin_anew()
    tally.update({"drop_no_rule": 7})
    assert tally.total({})[DropReason.NO_RULE] == 12


def test_own_drops_are_added() -> None:
    tally = Tally()
    tally.update({"drop_resource_limit": 1})
    total = tally.total({DropReason.RESOURCE_LIMIT: 2, DropReason.HOLD_TIMEOUT: 3})
    assert (total[DropReason.RESOURCE_LIMIT], total[DropReason.HOLD_TIMEOUT]) == (3, 3)
