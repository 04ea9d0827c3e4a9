"""What somebody may have meant."""

from filters.suggestion import suggestion


def test_suggests_only_what_is_near() -> None:
    assert suggestion("wbe", ("web", "db")) == "; did you mean web?"
    assert suggestion("zzzzzz", ("web", "db")) == ""
