"""The control API before callers who may only read, and ask for as much as they can."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from gateway.api import audit_handlers, door, places, server
from gateway.api.arguments import seconds, sha256_of, whole_number
from gateway.api.places import Busy, Places
from gateway.api.reading import Turns
from gateway.api.routes import ROUTES, Permission, Route
from gateway.api.server import start_api
from gateway.cli.client import ApiClient, ApiError
from gateway.errors import GatewayError

Answer = tuple[int, dict[str, Any]]


@dataclass
class Api:
    """A served API before a service of which only what these tests need is there."""

    path: Path
    read: list[tuple[int, int]] = field(default_factory=list)
    head: int = 0
    full: bool = False
    go: asyncio.Event = field(default_factory=asyncio.Event)

    async def wait_beyond(self, _after: int) -> None:
        await self.go.wait()

    def service(self, free: frozenset[int]) -> Any:
        def read(after: int, limit: int) -> list[dict[str, Any]]:
            self.read.append((after, limit))
            return []

        spool = SimpleNamespace(
            head=(self.head, bytes(32)), read=read, wait_beyond=self.wait_beyond, path=self.path
        )

        async def nothing() -> int:
            return 0

        started = asyncio.Event()
        if not self.full:
            started.set()

        return SimpleNamespace(
            started=started,
            setup=SimpleNamespace(allowed_uids=free, sockets=SimpleNamespace(api=self.path)),
            spool=spool,
            key=None,
            recorder=SimpleNamespace(flush=nothing),
            tpm=SimpleNamespace(read_counter=nothing),
            registry=[],
        )

    async def ask(self, method: str, target: str, body: bytes = b"") -> Answer:
        reader, writer = await asyncio.open_unix_connection(self.path)
        head = f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body)
        answer = await reader.read()
        writer.close()
        head, _, content = answer.decode().partition("\r\n\r\n")
        return int(head.split()[1]), json.loads(content)


def served(tmp_path: Path, story: Callable[[Api], Awaitable[None]], *free: int, full: bool = False) -> None:
    """Run a story before the API. The tests' own uid, root's, may only read unless it is in `free`."""

    async def run() -> None:
        api = Api(tmp_path / "api.sock", full=full)
        runner = await start_api(api.service(frozenset(free)))
        try:
            async with asyncio.timeout(20):
                await story(api)
        finally:
            api.go.set()
            await runner.cleanup()

    asyncio.run(run())


@pytest.mark.parametrize(
    "query",
    [
        "limit=-1", "limit=0", "limit=1001", "limit=x", "limit=1e3", "limit=", f"limit={'9' * 5000}",
        "after=-1", f"after={1 << 63}", "wait=nan", "wait=inf", "wait=-inf", "wait=-1", "wait=30.1", "wait=1e400", "wait=x",
    ],
)  # fmt: skip
def test_rejects_numbers_out_of_bounds(tmp_path: Path, query: str) -> None:
    """`limit=-1` is no limit to SQLite, and a timer at NaN puts the loop's other timers out of order."""

    async def story(api: Api) -> None:
        status, answer = await api.ask("GET", f"/v1/events?{query}")
        assert (status, answer["error"]["code"]) == (409, "malformed-request")
        name, _, value = query.partition("=")
        assert f"`{name}`: expected " in answer["error"]["message"]
        assert f"got {value[:40]!r}" in answer["error"]["message"]
        assert api.read == []

    served(tmp_path, story)


@pytest.mark.parametrize(
    ("query", "read"),
    [("", (0, 1000)), ("?after=7&limit=1", (7, 1)), ("?limit=1000&wait=0.01", None), ("?after=0&wait=0", (0, 1000))],
)  # fmt: skip
def test_takes_numbers_within_bounds(tmp_path: Path, query: str, read: tuple[int, int] | None) -> None:
    async def story(api: Api) -> None:
        assert await api.ask("GET", f"/v1/events{query}") == (200, {"events": []})
        assert api.read == ([] if read is None else [read])

    served(tmp_path, story)


def test_the_bounds_themselves_are_within() -> None:
    assert whole_number({"n": "5"}, "n", 1, 5, 9) == 5
    assert whole_number({"n": "9"}, "n", 1, 5, 9) == 9
    assert whole_number({}, "n", 7, 5, 9) == 7
    assert (seconds({"s": "30"}, "s", 30.0), seconds({"s": "0"}, "s", 30.0), seconds({}, "s", 30.0)) == (
        30,
        0,
        0,
    )


@pytest.mark.parametrize("target", ["POST /v1/audit/verify", "POST /v1/explain", "GET /v1/peers"])
@pytest.mark.parametrize("chunked", [False, True])
def test_rejects_a_readers_large_body(tmp_path: Path, target: str, chunked: bool) -> None:
    most = 64 << 10

    async def story(api: Api) -> None:
        reader, writer = await asyncio.open_unix_connection(api.path)
        body = json.dumps({"pad": "x" * most}).encode()
        length = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {len(body)}"
        writer.write(f"{target} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n".encode())
        writer.write(f"{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n" if chunked else body)
        head = await reader.readuntil(b"\r\n\r\n")
        assert b" 413 " in head
        assert f"expected at most {most} bytes".encode() in await reader.read(1000)
        writer.close()

    served(tmp_path, story)


def test_an_administrators_body_may_be_large(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        body = json.dumps({"detail": "x" * (1 << 20)}).encode()
        status, answer = await api.ask("POST", "/v1/update/outcome", body)
        assert (status, answer["error"]["message"]) == (409, "`outcome` must be a text")

    served(tmp_path, story, 0)


@pytest.mark.parametrize(
    "body",
    [b"[" * 60_000, b"[]", b"{", b'{"known_heads": [{"source": "a", "sequence": Infinity, "hash": ""}]}'],
)
def test_rejects_a_body_that_is_no_object(tmp_path: Path, body: bytes) -> None:
    async def story(api: Api) -> None:
        status, answer = await api.ask("POST", "/v1/audit/verify", body)
        assert status in (400, 409)
        assert answer["error"]["code"] == "malformed-request"

    served(tmp_path, story)


@pytest.mark.parametrize(
    ("target", "status", "code"),
    [
        ("GET /v1/nothing", 404, "unknown-path"),
        ("GET /", 404, "unknown-path"),
        ("POST /v1/peers//restart", 404, "unknown-path"),
        ("POST /v1/status", 405, "wrong-method"),
        ("PUT /v1/policy", 405, "wrong-method"),
    ],
)
def test_rejects_what_is_no_route_in_json_too(tmp_path: Path, target: str, status: int, code: str) -> None:
    """Who reads JSON took a bare `404: Not Found` for a gateway that is away."""

    async def story(api: Api) -> None:
        method, path = target.split()
        found, answer = await api.ask(method, path)
        assert (found, answer["error"]["code"]) == (status, code)
        assert "expected " in answer["error"]["message"]

    served(tmp_path, story)


def test_an_error_of_the_gateways_own_is_told_in_json(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def handler(_: object) -> dict[str, Any]:
        raise RuntimeError("a secret of ours")

    monkeypatch.setattr(server, "ROUTES", [*ROUTES, Route("GET", "/v1/bad", Permission.READ, handler)])

    async def story(api: Api) -> None:
        status, answer = await api.ask("GET", "/v1/bad")
        assert (status, answer["error"]["code"]) == (500, "internal")
        assert "secret" not in answer["error"]["message"]
        assert "a secret of ours" in caplog.text

    served(tmp_path, story)


def test_rejects_a_body_whose_coding_is_broken(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        reader, writer = await asyncio.open_unix_connection(api.path)
        head = "POST /v1/explain HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Encoding: gzip\r\nContent-Length: 2"
        writer.write(f"{head}\r\n\r\nxx".encode())
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b"malformed-request" in answer
        writer.close()

    served(tmp_path, story)


@pytest.mark.parametrize(
    ("target", "body", "why"),
    [
        ("POST /v1/policy/apply", {"text": "", "file": "", "confirm": 60}, "did you mean confirm_s?"),
        ("POST /v1/policy/apply?confirm_s=60", {"text": "", "file": ""}, "the query of"),
        ("POST /v1/authority/revoke", {"peer": "web"}, "expected nothing"),
        ("GET /v1/events?afer=7", {}, "did you mean after?"),
        ("GET /v1/events?after=7&after=8", {}, "more than once"),
        ("GET /v1/events", {"after": 7}, "the body of"),
    ],
)
def test_rejects_names_that_would_be_passed_over(
    tmp_path: Path, target: str, body: dict[str, Any], why: str
) -> None:
    """A policy stays in force without its `confirm_s`, a stop for one peer stops all."""

    async def story(api: Api) -> None:
        content = json.dumps(body).encode() if body else b""
        method, path = target.split()
        status, answer = await api.ask(method, path, content)
        assert (status, answer["error"]["code"]) == (409, "malformed-request")
        assert why in answer["error"]["message"]
        assert api.read == []

    served(tmp_path, story, 0)


@pytest.mark.parametrize(
    "ek", ["sha256:" + "z" * 64, "sha256:" + "0" * 63, "0" * 64, "sha256:" + "٣" * 64, None, 7]
)
def test_rejects_a_fingerprint_that_no_certificate_has(ek: object) -> None:
    """Approved beforehand, it would wait for a TPM that can't come."""
    with pytest.raises(GatewayError, match="`ek`: expected sha256: and 64 hex digits"):
        sha256_of({"ek": ek}, "ek", "sha256:")
    assert sha256_of({"ek": "sha256:" + "AB" * 32}, "ek", "sha256:") == "sha256:" + "ab" * 32


def test_one_record_is_verified_at_a_time_and_not_in_the_gateways_own_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go, running, names = threading.Event(), [], []

    def verify(*_: object) -> tuple[int, list[Any]]:
        running.append(1)
        names.append(threading.current_thread().name)
        assert go.wait(10)
        return 0, []

    monkeypatch.setattr(audit_handlers, "verify_audit", verify)

    async def story(api: Api) -> None:
        first = asyncio.create_task(api.ask("POST", "/v1/audit/verify"))
        while not running:
            await asyncio.sleep(0.01)
        status, answer = await api.ask("POST", "/v1/audit/verify")
        assert (status, answer["error"]["code"]) == (503, "busy")
        assert "expected one at a time" in answer["error"]["message"]
        assert len(running) == 1
        for _ in range(40):  # nobody else waits for it
            await asyncio.to_thread(lambda: None)
        go.set()
        assert (await first)[0] == 200
        assert (await api.ask("POST", "/v1/audit/verify"))[1]["intact"]
        assert all(name.startswith("audit verifier") for name in names)

    served(tmp_path, story)


def test_a_caller_who_verifies_without_end_does_not_keep_another_from_it() -> None:
    async def run() -> None:
        turns, done = Turns(), []

        async def verify(actor: str) -> None:
            async with turns.turn(actor):
                await asyncio.sleep(0.01)
                done.append(actor)

        many = asyncio.create_task(verify("uid 1000"))
        await asyncio.sleep(0)
        root = asyncio.create_task(verify("uid 0"))
        await asyncio.sleep(0)
        with pytest.raises(Busy):
            await verify("uid 1000")
        await many
        await verify("uid 1000")
        await root
        assert done == ["uid 1000", "uid 0", "uid 1000"]

    asyncio.run(run())


def test_one_uid_holds_a_bounded_number_of_connections(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MOST_OF_ONE", 4)
    monkeypatch.setattr(door, "PARTING_S", 0.3)

    async def story(api: Api) -> None:
        held = [await asyncio.open_unix_connection(api.path) for _ in range(4)]
        await asyncio.sleep(0.05)
        status, answer = await api.ask("GET", "/v1/peers")
        assert (status, answer["error"]["code"]) == (503, "busy")
        assert "expected at most 4" in answer["error"]["message"]
        more = [await asyncio.open_unix_connection(api.path) for _ in range(50)]
        await asyncio.sleep(0.6)
        told = [b"busy" in await reader.read() for reader, _ in more]
        assert 10 <= sum(told) <= door.MOST_PARTING
        held[0][1].close()
        await asyncio.sleep(0.05)
        assert (await api.ask("GET", "/v1/peers"))[0] == 200
        for _, writer in (*held, *more):
            writer.close()

    served(tmp_path, story)


def test_who_hangs_up_still_has_its_requests_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for events goes on without the caller: else it could begin any number of times."""
    monkeypatch.setattr(places, "MOST_OF_ONE", 4)

    async def story(api: Api) -> None:
        for _ in range(4):
            _, writer = await asyncio.open_unix_connection(api.path)
            writer.write(b"GET /v1/events?wait=10 HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0.05)
            writer.close()
        await asyncio.sleep(0.05)
        assert (await api.ask("GET", "/v1/peers"))[0] == 503
        api.go.set()
        await asyncio.sleep(0.05)
        assert (await api.ask("GET", "/v1/peers"))[0] == 200

    served(tmp_path, story)


def test_who_may_change_things_is_never_without_a_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MOST_OF_ONE", 2)

    async def story(api: Api) -> None:
        held = [await asyncio.open_unix_connection(api.path) for _ in range(20)]
        assert (await api.ask("GET", "/v1/peers"))[0] == 200
        for _, writer in held:
            writer.close()

    served(tmp_path, story, 0)


def test_many_uids_together_leave_places_to_who_may_change_things() -> None:
    some = Places("requests", {0})
    for uid in range(1000, 1000 + places.MOST_OF_ALL):
        some.take(uid)
    with pytest.raises(Busy):
        some.take(5000)
    some.take(0)
    some.leave(0)
    some.leave(1000)
    some.take(5000)


def test_the_standard_librarys_client_reads_why_it_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MOST_OF_ONE", 1)

    async def story(api: Api) -> None:
        _, writer = await asyncio.open_unix_connection(api.path)
        await asyncio.sleep(0.05)
        with pytest.raises(ApiError) as refused:
            await asyncio.to_thread(ApiClient(api.path, 5).get, "/v1/peers")
        assert refused.value.code == "busy"
        writer.close()

    served(tmp_path, story)


def counting(monkeypatch: pytest.MonkeyPatch, *, waits: bool) -> list[int]:
    """Serve one more route; return how many of its requests were under way whenever one began."""
    under_way, seen = [0], []

    async def handler(_: object) -> dict[str, Any]:
        under_way[0] += 1
        seen.append(under_way[0])
        await asyncio.sleep(0.1)
        under_way[0] -= 1
        return {}

    one = Route("GET", "/v1/slow", Permission.READ, handler, waits=waits)
    monkeypatch.setattr(server, "ROUTES", [*ROUTES, one])
    return seen


@pytest.mark.parametrize(("free", "waits", "at_once"), [((), False, 1), ((), True, 8), ((0,), False, 8)])
def test_rejects_to_compute_for_readers_at_once_what_keeps_the_loop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: tuple[int, ...], waits: bool, at_once: int
) -> None:
    """Thirty-two answers of ten milliseconds in a row, and every peer's answer is late."""
    seen = counting(monkeypatch, waits=waits)

    async def story(api: Api) -> None:
        answers = await asyncio.gather(*(api.ask("GET", "/v1/slow") for _ in range(8)))
        assert {status for status, _ in answers} == {200}
        assert max(seen) == at_once

    served(tmp_path, story, *free)


@pytest.mark.parametrize(
    "target",
    ["GET /v1/peers", "GET /v1/policy", "POST /v1/explain", "POST /v1/peers/web/release", "POST /v1/policy/apply"],
)  # fmt: skip
def test_rejects_all_but_the_way_out_while_nothing_can_be_recorded(tmp_path: Path, target: str) -> None:
    async def story(api: Api) -> None:
        status, answer = await api.ask(*target.split())
        assert (status, answer["error"]["code"]) == (409, "audit-full")
        assert "quotegate audit prune" in answer["error"]["message"]

    served(tmp_path, story, 0, full=True)


def test_the_record_is_read_and_pruned_while_nothing_can_be_recorded(tmp_path: Path) -> None:
    async def story(api: Api) -> None:
        assert (await api.ask("GET", "/v1/events"))[0] == 200
        answer = (await api.ask("POST", "/v1/audit/prune", b'{"through": 0, "hash": ""}'))[1]
        assert answer["error"]["code"] == "malformed-request"

    served(tmp_path, story, 0, full=True)
    open_then = {(one.method, one.path) for one in ROUTES if one.when_full}
    assert open_then == {
        ("GET", "/v1/health"),
        ("GET", "/v1/status"),
        ("GET", "/v1/events"),
        ("GET", "/v1/audit"),
        ("POST", "/v1/audit/verify"),
        ("POST", "/v1/audit/prune"),
    }


@pytest.mark.parametrize(
    "text", [b"\x16\x03\x01 no HTTP\r\n\r\n", b"GET / HTTP/9\r\n\r\n", b"GET / HTTP/1.1\r\nx\r\n\r\n"]
)
def test_rejects_what_is_no_http_without_a_word_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, text: bytes
) -> None:
    async def story(api: Api) -> None:
        reader, writer = await asyncio.open_unix_connection(api.path)
        writer.write(text)
        assert (await reader.read(12)).startswith(b"HTTP/1.")
        writer.close()

    served(tmp_path, story)
    assert caplog.records == []
