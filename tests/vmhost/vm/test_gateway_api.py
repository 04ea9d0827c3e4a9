"""What the monitor makes of a gateway's answers: they come from a guest."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from vmhost.errors import HostError
from vmhost.update.slots import Outcome, Result
from vmhost.vm.gateway_api import MAX_ANSWER, Complaint, GatewayApi, complaint_of, parse_answer

PASSED = {"passed": True, "checks": [{"check": "rules", "passed": True, "detail": ""}]}
FAILED = {
    "passed": False,
    "checks": [
        {"check": "rules", "passed": True, "detail": ""},
        {"check": "inspector", "passed": False, "detail": "no inspector is here"},
    ],
}


def answer(body: object, head: str = "HTTP/1.1 200 OK\r\n\r\n") -> bytes:
    return head.encode() + json.dumps(body).encode()


def test_a_passed_self_test_has_no_complaint() -> None:
    assert complaint_of(PASSED) is None


def test_what_failed_is_said() -> None:
    assert complaint_of(FAILED) == Complaint("inspector: no inspector is here", pending=False)


@pytest.mark.parametrize(
    ("pending", "waits"), [([True, True], True), ([True, False], False), ([True, 1], False)]
)
def test_only_where_all_that_failed_may_still_come_is_it_waited_for(
    pending: list[object], waits: bool
) -> None:
    checks = [{"check": "x", "passed": False, "detail": "d", "pending": one} for one in pending]
    found = complaint_of({"passed": False, "checks": [*PASSED["checks"], *checks]})  # type: ignore[misc]
    assert found is not None
    assert found.pending is waits


@pytest.mark.parametrize(
    "odd",
    [
        {}, {"passed": True}, {"passed": True, "checks": []}, {"passed": True, "checks": {}}, {"passed": True, "checks": [1]},
        {"passed": True, "checks": [{}]}, {"passed": 1, "checks": PASSED["checks"]}, {**FAILED, "passed": True},
        {"passed": True, "checks": [{"check": "rules", "passed": "yes"}]}, {"passed": False, "checks": PASSED["checks"]},
    ],
)  # fmt: skip
def test_rejects_self_test_that_does_not_say_passed(odd: dict[str, Any]) -> None:
    found = complaint_of(odd)
    assert found is not None
    assert found.what
    assert not found.pending


@pytest.mark.parametrize(
    "untrusted",
    [b"", b"HTTP/1.1 200 OK", answer([]), answer(1), answer({"error": 1}), b"\r\n\r\n" + b"[" * 100_000,
     answer({"error": {"code": "x"}}), b"\r\n\r\n{" + b" " * MAX_ANSWER + b"}"],
)  # fmt: skip
def test_rejects_nonsense(untrusted: bytes) -> None:
    with pytest.raises(HostError) as raised:
        parse_answer(untrusted)
    assert raised.value.code == "bad-answer"


def test_a_refusal_has_the_gateways_own_words() -> None:
    with pytest.raises(HostError) as raised:
        parse_answer(answer({"error": {"code": "no-image", "message": "it has no version"}}))
    assert (raised.value.code, raised.value.message) == ("no-image", "it has no version")


RAW = "\x1b[2J\ud800\nquotegate"


def test_rejects_raw_text_for_the_operators_terminal() -> None:
    with pytest.raises(HostError) as raised:
        parse_answer(answer({"error": {"code": RAW, "message": RAW}}))
    assert raised.value.code == raised.value.message == "\\x1b[2J\\ud800\\nquotegate"
    found = complaint_of({"passed": False, "checks": [{"check": "x", "detail": RAW, "passed": False}]})
    assert found == Complaint("x: \\x1b[2J\\ud800\\nquotegate", pending=False)


def test_asks_and_tells_over_its_socket(tmp_path: Path) -> None:
    asked: list[tuple[str, object]] = []

    async def gateway(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        size = int(head.partition("Content-Length: ")[2].split("\r\n")[0])
        asked.append((head.split("\r\n")[0], json.loads(await reader.readexactly(size))))
        writer.write(answer(FAILED))
        writer.close()

    async def story() -> None:
        async with await asyncio.start_unix_server(gateway, tmp_path / "api.sock"):
            api = GatewayApi(tmp_path / "api.sock")
            assert await api.self_test() == Complaint("inspector: no inspector is here", pending=False)
            await api.tell(Outcome(Result.BLESSED, 2, "slot b"))
            await api.commit()

    asyncio.run(story())
    told = {"outcome": "blessed", "version": 2, "detail": "slot b"}
    assert asked == [
        ("POST /v1/self-test HTTP/1.1", {}),
        ("POST /v1/update/outcome HTTP/1.1", told),
        ("POST /v1/update/commit HTTP/1.1", {}),
    ]


def test_a_gateway_that_is_away_is_told(tmp_path: Path) -> None:
    with pytest.raises(HostError) as raised:
        asyncio.run(GatewayApi(tmp_path / "none").commit())
    assert raised.value.code == "gateway-away"
