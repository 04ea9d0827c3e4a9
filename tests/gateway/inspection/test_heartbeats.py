"""When an inspector counts as silent."""

from gateway.inspection.heartbeats import AWAY_S, FIRST_WITHIN_S, LOOK_EVERY_S, SILENT_S, Heartbeats


def looks(heartbeats: Heartbeats[str], since: float, until: float) -> dict[float, list[str]]:
    """Ask as often as one should; return who was silent, by time."""
    times = [since + LOOK_EVERY_S * step for step in range(int((until - since) / LOOK_EVERY_S) + 1)]
    return {now: found for now in times if (found := heartbeats.silent(now))}


def test_one_that_is_silent_is_named_once_and_the_other_goes_on() -> None:
    heartbeats: Heartbeats[str] = Heartbeats(0.0)
    for who in ("silent", "alive"):
        heartbeats.expect(who, 0.0)
        heartbeats.beat(who, 0.0)
    named = {}
    for second in range(60):
        heartbeats.beat("alive", second)
        if found := heartbeats.silent(second):
            named[second] = found
    assert named == {int(SILENT_S): ["silent"]}


def test_one_that_is_silent_for_less_is_not_named() -> None:
    heartbeats: Heartbeats[str] = Heartbeats(0.0)
    heartbeats.expect("one", 0.0)
    heartbeats.beat("one", 0.0)
    assert looks(heartbeats, 0.0, SILENT_S - LOOK_EVERY_S) == {}
    heartbeats.beat("one", SILENT_S - 0.1)
    assert looks(heartbeats, SILENT_S, 2 * SILENT_S - LOOK_EVERY_S) == {}


def test_who_starts_has_more_time_but_not_for_ever() -> None:
    heartbeats: Heartbeats[str] = Heartbeats(0.0)
    heartbeats.expect("one", 0.0)
    assert looks(heartbeats, 0.0, 2 * FIRST_WITHIN_S) == {FIRST_WITHIN_S: ["one"]}


def test_who_left_is_neither_named_nor_heard() -> None:
    heartbeats: Heartbeats[str] = Heartbeats(0.0)
    heartbeats.expect("one", 0.0)
    heartbeats.forget("one")
    heartbeats.beat("one", 0.0)
    assert looks(heartbeats, 0.0, 2 * FIRST_WITHIN_S) == {}


def test_who_was_away_itself_blames_nobody() -> None:
    heartbeats: Heartbeats[str] = Heartbeats(0.0)
    heartbeats.expect("one", 0.0)
    heartbeats.beat("one", 0.0)
    back = SILENT_S + AWAY_S
    assert heartbeats.silent(back) == []
    assert looks(heartbeats, back + LOOK_EVERY_S, back + 2 * SILENT_S) == {back + SILENT_S: ["one"]}
