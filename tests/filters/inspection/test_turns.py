"""Turns: guests wait for themselves, and nothing is lost when one gives up."""

import asyncio

import pytest

from filters.inspection.worker.turns import Turns


def test_guests_take_turns_whatever_each_asks_for() -> None:
    async def story() -> list[str]:
        turns: Turns[int] = Turns()
        order: list[str] = []

        async def work(guest: str) -> None:
            thing = await turns.take(guest)
            order.append(guest)
            await asyncio.sleep(0)
            turns.give(thing)

        turns.give(1)
        async with asyncio.TaskGroup() as group:
            for guest in "aaaabbc":
                group.create_task(work(guest))
        return order

    assert "".join(asyncio.run(story())) == "aabcaba"


def test_who_gives_up_passes_its_turn_on() -> None:
    async def story() -> int:
        turns: Turns[int] = Turns()
        first, second = (asyncio.create_task(turns.take(guest)) for guest in "ab")
        await asyncio.sleep(0)
        turns.give(7)  # a's, who has gone at the same moment
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await asyncio.wait_for(second, 1)

    assert asyncio.run(story()) == 7


def test_who_gave_up_before_is_passed_over() -> None:
    async def story() -> int:
        turns: Turns[int] = Turns()
        first, second = (asyncio.create_task(turns.take(guest)) for guest in "ab")
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.sleep(0)
        turns.give(7)
        turns.give(8)
        return await asyncio.wait_for(second, 1) + await turns.take("c")

    assert asyncio.run(story()) == 15


def test_refused_are_all_who_wait_and_nobody_later() -> None:
    async def story() -> int:
        turns: Turns[int] = Turns()
        waiting = [asyncio.create_task(turns.take(guest)) for guest in "aab"]
        await asyncio.sleep(0)
        turns.refuse(OSError("none"))
        refused = await asyncio.gather(*waiting, return_exceptions=True)
        assert all(isinstance(one, OSError) for one in refused)
        turns.give(3)
        return await turns.take("a")

    assert asyncio.run(story()) == 3


def test_what_nobody_has_can_be_taken_back() -> None:
    turns: Turns[int] = Turns()
    turns.give(1)
    turns.give(2)
    assert turns.take_free() == [1, 2]
    assert turns.take_free() == []
