"""The QMP client against a scripted server: what QEMU may answer, and what a hijacked one might."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from vmhost.errors import HostError
from vmhost.vm.qmp import MAX_EVENTS, MAX_MESSAGE, MAX_TEXT, Answer, Event, Greeting, Qmp, parse

GREETING = {"QMP": {"version": {"qemu": {"major": 7, "minor": 2, "micro": 22}}, "capabilities": ["oob"]}}


class Server:
    """One connection of a scripted QMP server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, message: Any) -> None:
        self.writer.write(json.dumps(message).encode() + b"\r\n")

    async def expect(self, command: str) -> int:
        message = json.loads(await self.reader.readline())
        assert message["execute"] == command
        return int(message["id"])

    async def answer(self, command: str, value: Any) -> None:
        self.send({"return": value, "id": await self.expect(command)})

    async def negotiate(self) -> None:
        self.send(GREETING)
        await self.answer("qmp_capabilities", {})


Script = Callable[[Server], Awaitable[None]]
Work = Callable[[Qmp], Awaitable[None]]


def play(tmp_path: Path, script: Script, work: Work, within_s: float = 5.0) -> None:
    """Run the server's script against the client's work; both must come to an end."""

    async def both() -> None:
        trouble: list[BaseException] = []

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            try:
                await script(Server(reader, writer))
                await writer.drain()
            except ConnectionError:
                pass
            except BaseException as error:
                trouble.append(error)
            finally:
                writer.close()

        path = tmp_path / "qmp.sock"
        async with await asyncio.start_unix_server(serve, path), asyncio.timeout(10):
            qmp = await Qmp.connect(path, within_s)
            try:
                await work(qmp)
            finally:
                await qmp.close()
                await qmp.close()
            assert not [task for task in asyncio.all_tasks() if task.get_name() == "qmp"]
        assert trouble == []

    asyncio.run(both())


async def nothing(qmp: Qmp) -> None:
    raise AssertionError("it connected")


def fails_to_connect(tmp_path: Path, script: Script, code: str, within_s: float = 5.0) -> None:
    with pytest.raises(HostError) as refused:
        play(tmp_path, script, nothing, within_s)
    assert refused.value.code == code


async def silent(server: Server) -> None:
    await server.reader.read()


def test_greeting_and_commands(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        await server.negotiate()
        await server.answer("query-status", {"status": "running", "running": True})
        for command in ("cont", "quit"):
            await server.answer(command, {})

    async def work(qmp: Qmp) -> None:
        assert qmp.version == "7.2.22"
        assert await qmp.query_status() == "running"
        await qmp.cont()
        await qmp.quit()

    play(tmp_path, script, work)


def test_answers_find_their_commands(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        await server.negotiate()
        first, second = await server.expect("one"), await server.expect("two")
        server.send({"return": "of nobody", "id": 999})
        server.send({"return": "second", "id": second})
        server.send({"return": "first", "id": first})
        server.send({"return": "again", "id": first})
        await server.answer("three", 3)

    async def work(qmp: Qmp) -> None:
        assert await asyncio.gather(qmp.execute("one"), qmp.execute("two")) == ["first", "second"]
        assert await qmp.execute("three") == 3

    play(tmp_path, script, work)


def test_a_refusal_is_an_error_and_the_connection_goes_on(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        await server.negotiate()
        server.send({"error": {"class": "GenericError", "desc": "no"}, "id": await server.expect("cont")})
        await server.answer("query-status", {"status": "paused"})

    async def work(qmp: Qmp) -> None:
        with pytest.raises(HostError, match="QMP cont: expected success, got GenericError: no;") as refused:
            await qmp.cont()
        assert refused.value.code == "qmp-refused"
        assert await qmp.query_status() == "paused"

    play(tmp_path, script, work)


def test_events_between_answers(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        await server.negotiate()
        number = await server.expect("cont")
        server.send({"event": "RESUME", "timestamp": {}})
        server.send({"event": "ODD", "data": [1]})
        server.send({"return": {}, "id": number})
        server.send({"event": "SHUTDOWN", "data": {"guest": True, "reason": "guest-reset"}})
        await silent(server)

    async def work(qmp: Qmp) -> None:
        await qmp.cont()
        assert await qmp.next_event() == Event("RESUME")
        assert await qmp.next_event() == Event("ODD")
        assert (await qmp.next_event()).data["reason"] == "guest-reset"

    play(tmp_path, script, work)


def test_a_flood_of_events_is_bounded_and_the_last_are_kept(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        await server.negotiate()
        for number in range(MAX_EVENTS + 50):
            server.send({"event": "FLOOD", "data": {"number": number}})
        server.send({"event": "SHUTDOWN", "data": {"reason": "guest-shutdown"}})
        await server.answer("query-status", {"status": "running"})

    async def work(qmp: Qmp) -> None:
        await qmp.query_status()
        assert qmp.events_dropped == 51
        kept = [await qmp.next_event() for _ in range(MAX_EVENTS)]
        assert kept[0].data == {"number": 51}
        assert kept[-1].name == "SHUTDOWN"

    play(tmp_path, script, work)


@pytest.mark.parametrize("part", [b"", b'{"return": {}, "id"'], ids=["between", "within a message"])
def test_a_hang_up_reaches_everybody_who_waits(tmp_path: Path, part: bytes) -> None:
    async def script(server: Server) -> None:
        await server.negotiate()
        await server.expect("one")
        await server.expect("two")
        server.writer.write(part)

    async def work(qmp: Qmp) -> None:
        waiting = asyncio.create_task(qmp.next_event())
        outcome = await asyncio.gather(
            qmp.execute("one"), qmp.execute("two"), waiting, return_exceptions=True
        )
        assert [getattr(one, "code", one) for one in outcome] == ["qmp-lost"] * 3
        for later in (qmp.cont(), qmp.next_event(), qmp.next_event()):
            with pytest.raises(HostError) as lost:
                await later
            assert lost.value.code == "qmp-lost"

    play(tmp_path, script, work)


def test_events_before_a_hang_up_are_still_there(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        await server.negotiate()
        server.send({"event": "SHUTDOWN", "data": {"reason": "guest-shutdown"}})

    async def work(qmp: Qmp) -> None:
        await asyncio.sleep(0.1)
        assert (await qmp.next_event()).name == "SHUTDOWN"
        with pytest.raises(HostError):
            await qmp.next_event()

    play(tmp_path, script, work)


def test_an_oversized_message_ends_the_connection(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        await server.negotiate()
        await server.expect("query-status")
        for _ in range(3):  # it is not waited for to its end
            server.writer.write(b"x" * MAX_MESSAGE)
            await server.writer.drain()
        await silent(server)

    async def work(qmp: Qmp) -> None:
        with pytest.raises(HostError) as refused:
            await qmp.query_status()
        assert refused.value.code == "qmp-oversized"

    play(tmp_path, script, work)


def test_no_answer_in_time(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        await server.negotiate()
        late = await server.expect("one")
        await server.expect("two")
        server.send({"return": "late", "id": late})
        await silent(server)

    async def work(qmp: Qmp) -> None:
        with pytest.raises(HostError, match="QMP one: expected an answer within") as late:
            await qmp.execute("one", within_s=0.1)
        assert late.value.code == "qmp-timeout"
        with pytest.raises(HostError, match="QMP two"):
            await qmp.execute("two", within_s=0.1)

    play(tmp_path, script, work)


@pytest.mark.parametrize(
    "line",
    [
        b"no json",
        b"[]",
        b"{}",
        b'{"return": {}}',
        b'{"return": 1, "id": "x"}',
        b"\xff",
        b"[" * 60000,
        b'{"event": 1}',
    ],
    ids=lambda line: line[:20].decode(errors="replace"),
)
def test_malformed_messages_end_the_connection(tmp_path: Path, line: bytes) -> None:
    with pytest.raises(HostError) as refused:
        parse(line)
    assert refused.value.code == "qmp-malformed"

    async def script(server: Server) -> None:
        await server.negotiate()
        await server.expect("cont")
        server.writer.write(line + b"\n")
        await silent(server)

    async def work(qmp: Qmp) -> None:
        with pytest.raises(HostError) as malformed:
            await qmp.cont()
        assert malformed.value.code == "qmp-malformed"

    play(tmp_path, script, work)


def test_an_error_of_no_command_ends_the_connection(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        await server.negotiate()
        await server.expect("cont")
        server.send({"error": {"class": "GenericError", "desc": "JSON parse error"}})
        await silent(server)

    async def work(qmp: Qmp) -> None:
        with pytest.raises(HostError, match="JSON parse error"):
            await qmp.cont()

    play(tmp_path, script, work)


def test_messages_by_kind() -> None:
    assert parse(json.dumps(GREETING).encode()) == Greeting("7.2.22")
    assert parse(b'{"return": null, "id": 3}') == Answer(3, None)
    assert parse(b'{"error": {"class": "C", "desc": "D"}, "id": 4}') == Answer(4, error="C: D")
    raw = parse(b'{"error": {"class": "C", "desc": "\\u001b[2J\\ud800"}, "id": 4}')
    assert raw == Answer(4, error="C: \\x1b[2J\\ud800")  # it may come from a QEMU that was taken over
    assert parse(b'{"event": "STOP", "data": {"a": 1}}') == Event("STOP", {"a": 1})


def test_no_server(tmp_path: Path) -> None:
    with pytest.raises(HostError) as refused:
        asyncio.run(Qmp.connect(tmp_path / "none"))
    assert refused.value.code == "qmp-unreachable"


def test_no_greeting(tmp_path: Path) -> None:
    fails_to_connect(tmp_path, silent, "qmp-unreachable", within_s=0.2)


def test_a_hang_up_instead_of_a_greeting(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        return

    fails_to_connect(tmp_path, script, "qmp-lost")


def test_something_else_than_a_greeting(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        server.send({"event": "RESUME"})
        await silent(server)

    fails_to_connect(tmp_path, script, "qmp-malformed")


def test_capabilities_refused(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        server.send(GREETING)
        number = await server.expect("qmp_capabilities")
        server.send({"error": {"class": "GenericError", "desc": "no"}, "id": number})
        await silent(server)

    fails_to_connect(tmp_path, script, "qmp-refused")


LONG = "\x1b" * 10_000  # escaped it is four times as long


def test_rejects_a_long_refusal_as_a_short_message(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        await server.negotiate()
        server.send({"error": {"class": "GenericError", "desc": LONG}, "id": await server.expect("cont")})
        await silent(server)

    async def work(qmp: Qmp) -> None:
        with pytest.raises(HostError) as refused:
            await qmp.cont()
        assert refused.value.code == "qmp-refused"
        assert len(refused.value.message) < 5 * MAX_TEXT

    play(tmp_path, script, work)


def test_rejects_a_long_event_instead_of_a_greeting_as_a_short_message(tmp_path: Path) -> None:
    async def script(server: Server) -> None:
        server.send({"event": LONG})
        await silent(server)

    with pytest.raises(HostError) as refused:
        play(tmp_path, script, nothing)
    assert refused.value.code == "qmp-malformed"
    assert len(refused.value.message) < 2 * MAX_TEXT


@pytest.mark.parametrize(
    ("status", "read"),
    [(LONG, "\\x1b" * MAX_TEXT), ([[["running"]]], ""), (None, "")],
    ids=["long", "list", "none"],
)
def test_a_state_is_a_short_word_whatever_qemu_says(tmp_path: Path, status: object, read: str) -> None:
    async def script(server: Server) -> None:
        await server.negotiate()
        await server.answer("query-status", {"status": status})

    async def work(qmp: Qmp) -> None:
        assert await qmp.query_status() == read

    play(tmp_path, script, work)
