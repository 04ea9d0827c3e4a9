"""Requests between processes: many at once, answers to who asked."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from gateway import rpc
from gateway.errors import GatewayError
from gateway.rpc import MOST_PARTING, Payload, RpcClient, RpcError, read_message, serve


def dialogue(
    tmp_path: Path,
    handler: Callable[[Payload, int], Awaitable[Payload]],
    story: Callable[[RpcClient], Awaitable[None]],
) -> None:
    async def run() -> None:
        server = await serve(tmp_path / "rpc.sock", handler)
        client = await RpcClient.connect(tmp_path / "rpc.sock")
        try:
            async with asyncio.timeout(10):
                await story(client)
        finally:
            client.close()
            server.close()

    asyncio.run(run())


def test_a_cancelled_calls_answer_goes_to_nobody_else(tmp_path: Path) -> None:
    """A peer that hangs up amid its handshake once shifted every later quote to the next handshake."""
    go = asyncio.Event()

    async def handler(request: Payload, _: int) -> Payload:
        if request["op"] == "slow":
            await go.wait()
        return {"said": request["op"]}

    async def story(client: RpcClient) -> None:
        slow = asyncio.create_task(client.call("slow"))
        await asyncio.sleep(0.05)
        slow.cancel()
        next_one = asyncio.create_task(client.call("next"))
        await asyncio.sleep(0.05)
        go.set()
        assert (await next_one)["said"] == "next"
        assert (await client.call("after"))["said"] == "after"

    dialogue(tmp_path, handler, story)


def test_requests_of_one_connection_are_worked_on_at_once_and_answered_in_order(tmp_path: Path) -> None:
    """Else handshakes never share a quote: the second is asked for when the first is answered."""
    begun: list[object] = []
    both = asyncio.Event()

    async def handler(request: Payload, _: int) -> Payload:
        begun.append(request["number"])
        if len(begun) == 3:
            both.set()
        await both.wait()
        await asyncio.sleep(0.05 if request["number"] == 0 else 0)
        return {"number": request["number"]}

    async def story(client: RpcClient) -> None:
        answers = await asyncio.gather(*(client.call("count", number=number) for number in range(3)))
        assert [one["number"] for one in answers] == [0, 1, 2]
        assert begun == [0, 1, 2]

    dialogue(tmp_path, handler, story)


def test_a_refusal_is_its_callers_alone(tmp_path: Path) -> None:
    async def handler(request: Payload, _: int) -> Payload:
        if request["op"] == "bad":
            raise GatewayError("no-good", "not this one")
        return {}

    async def story(client: RpcClient) -> None:
        bad, good = await asyncio.gather(client.call("bad"), client.call("good"), return_exceptions=True)
        assert isinstance(bad, RpcError)
        assert bad.code == "no-good"
        assert good == {"ok": True}

    dialogue(tmp_path, handler, story)


def test_tells_for_how_long_an_answer_has_been_owed(tmp_path: Path) -> None:
    go = asyncio.Event()

    async def handler(_: Payload, __: int) -> Payload:
        await go.wait()
        return {}

    async def story(client: RpcClient) -> None:
        assert client.waits == 0.0
        slow = asyncio.create_task(client.call("slow"))
        await asyncio.sleep(0.1)
        slow.cancel()  # it is owed all the same
        assert client.waits > 0.09
        go.set()
        await client.call("next")
        assert client.waits == 0.0

    dialogue(tmp_path, handler, story)


@pytest.mark.parametrize("error", [RuntimeError("broken"), ConnectionResetError("gone")])
def test_whoever_waits_hears_of_a_broken_connection(tmp_path: Path, error: Exception) -> None:
    async def handler(_: Payload, __: int) -> Payload:
        raise error

    async def story(client: RpcClient) -> None:
        for _ in range(2):
            with pytest.raises(RpcError) as failed:
                await client.call("anything")
            assert failed.value.code == "away"

    dialogue(tmp_path, handler, story)


def nobody(uid: int) -> None:
    raise GatewayError("not-permitted", f"uid {uid} may not")


def knocking(tmp_path: Path, story: Callable[[Path], Awaitable[None]]) -> None:
    """Run a story before a server that lets nobody in."""

    async def handler(_: Payload, __: int) -> Payload:
        raise AssertionError("a stranger's request was handled")

    async def run() -> None:
        server = await serve(tmp_path / "rpc.sock", handler, admit=nobody)
        async with asyncio.timeout(10):
            await story(tmp_path / "rpc.sock")
        server.close()

    asyncio.run(run())


def test_a_stranger_is_told_why_and_let_go(tmp_path: Path) -> None:
    async def story(path: Path) -> None:
        client = await RpcClient.connect(path)
        with pytest.raises(RpcError) as refused:
            await client.call("anything", padding="x" * 200_000)
        assert refused.value.code == "not-permitted"
        with pytest.raises(RpcError) as gone:
            await client.call("again")
        assert gone.value.code == "away"
        client.close()

    knocking(tmp_path, story)


def test_strangers_that_say_nothing_hold_no_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each held a descriptor of tpmd's for as long as it liked."""
    monkeypatch.setattr(rpc, "PARTING_S", 0.3)

    async def story(path: Path) -> None:
        many = [await asyncio.open_unix_connection(path) for _ in range(100)]
        await asyncio.sleep(0.1)
        left = [one for one, _ in many if not one.at_eof()]
        assert len(left) == MOST_PARTING
        await asyncio.sleep(0.4)
        assert all(one.at_eof() for one, _ in many)
        client = await RpcClient.connect(path)  # and who comes later is told why again
        with pytest.raises(RpcError, match="may not"):
            await client.call("anything")
        client.close()
        for _, writer in many:
            writer.close()

    knocking(tmp_path, story)


@pytest.mark.parametrize("body", [b"[" * 500_000, b'{"a":' * 100_000, b"\xff", b"[]", b""])
def test_rejects_what_is_no_object_however_deep_it_is(body: bytes) -> None:
    async def story() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(len(body).to_bytes(4, "big") + body)
        with pytest.raises(RpcError) as raised:
            await read_message(reader)
        assert raised.value.code == "malformed-message"

    asyncio.run(story())
