"""Asking a gateway that does not answer: what is advised fits what is there."""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from gateway.cli import operate
from gateway.cli.client import SOCKET_VARIABLE, ApiClient, ApiError
from gateway.cli.parser import build_parser
from gateway.errors import GatewayError
from vmhost.names import Lab


def said(path: Path) -> str:
    with pytest.raises(ApiError) as raised:
        ApiClient(path).get("/v1/health")
    assert raised.value.code == "away"
    return raised.value.message


def test_names_the_way_back_to_what_was_kept() -> None:
    lab = Lab(f"tgc{os.getpid()}")
    assert said(lab.api_socket).endswith(f"is it running? (quotegate lab up --lab {lab.name})")
    lab.kept_dir.mkdir(parents=True)
    try:
        assert said(lab.api_socket).endswith(f"is it running? (quotegate lab resume --lab {lab.name})")
    finally:
        lab.kept_dir.rmdir()
        lab.state_dir.rmdir()


def test_names_no_lab_for_a_socket_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path / "gateway/quotegated/api.sock", Path("/run/quotegate/lab/other.sock"), Path("x")):
        assert said(path).endswith("is it running?")


@contextmanager
def answers(path: Path, content: bytes) -> Iterator[list[bytes]]:
    """Answer one request; what was asked is kept."""
    asked: list[bytes] = []

    def serve() -> None:
        caller, _ = listener.accept()
        with caller:
            asked.append(caller.recv(65536))
            caller.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + content)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        server = threading.Thread(target=serve, daemon=True)
        server.start()
        yield asked
        server.join(5)


@pytest.mark.parametrize(
    "content",
    [
        b"404: Not Found",
        b"[]",
        b"7",
        b"[" * 100_000,
        b"\xff",
        b'{"error": 7}',
        b'{"error": {"code": "x"}}',
        b"{}",
        b'{"peers": [{"state": "trusted"}]}',
    ],
)
def test_rejects_an_answer_of_something_else_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """A gateway of another version, or one that was taken over: it does answer, and there is no traceback."""
    path = tmp_path / "s"
    monkeypatch.setenv(SOCKET_VARIABLE, str(path))
    with answers(path, content), pytest.raises(ApiError, match="expected the gateway's answer") as raised:
        for one in operate.client(build_parser().parse_args(["peers"])).get("/v1/peers")["peers"]:
            assert one["name"]
    assert raised.value.code == "bad-answer"


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["peer", "restart", "a/b?c=d e"], b"POST /v1/peers/a%2Fb%3Fc%3Dd%20e/restart "),
        (["peer", "restart", "web/forget?"], b"POST /v1/peers/web%2Fforget%3F/restart "),
        (["peer", "restart", "\udcff"], b"POST /v1/peers/%FF/restart "),
        (["session", "cut", "../peers"], b"DELETE /v1/sessions/..%2Fpeers "),
        (["policy", "show", "1&revision=2"], b"GET /v1/policy?revision=1%26revision%3D2 "),
        (["evidence", "save", "a/b"], b"GET /v1/peers/a%2Fb/evidence?which=accepted "),
    ],
)
def test_rejects_a_name_that_would_ask_for_something_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], line: bytes
) -> None:
    path = tmp_path / "s"
    monkeypatch.setenv(SOCKET_VARIABLE, str(path))
    arguments = build_parser().parse_args(words)
    refusal = b'{"error": {"code": "unknown", "message": "no such thing"}}'
    with answers(path, refusal) as asked, pytest.raises(ApiError, match="no such thing"):
        arguments.run(arguments)
    assert asked[0].startswith(line)


@pytest.mark.parametrize(
    "words", [["peer", "restart", ""], ["peer", "restart", ".."], ["session", "cut", "."]]
)
def test_rejects_a_name_that_is_none(words: list[str]) -> None:
    arguments = build_parser().parse_args(words)
    with pytest.raises(GatewayError, match="expected a name") as raised:
        arguments.run(arguments)
    assert raised.value.code == "bad-name"
