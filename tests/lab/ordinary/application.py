"""An aiohttp server: `python -m tests.lab.ordinary.application PORT`. Bodies come back, or their hash does."""

import asyncio
import contextlib
import hashlib
import sys
import zlib

import brotli
import zstandard
from aiohttp import ClientSession, WSMsgType, web

TEXT = ("Lines that pack well, the same again and again.\r\n" * 4000).encode()
PAGE = """<!doctype html><html><head><meta charset="utf-8"><link rel="stylesheet" href="/site/page.css">
<title>page</title></head><body><p id="said">nothing</p><img id="picture" src="/site/picture.png">
<script src="/site/page.js"></script><img src="/held"></body></html>"""
PACKERS = {
    "gzip": lambda data: zlib.compress(data, wbits=31),
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
}


async def echo(request: web.Request) -> web.Response:
    return web.Response(body=await request.read(), content_type="application/octet-stream")


async def digest(request: web.Request) -> web.Response:
    """Take a body of any size and framing; answer its hash."""
    seen = hashlib.sha256()
    async for piece in request.content.iter_chunked(1 << 16):
        seen.update(piece)
    return web.Response(text=seen.hexdigest())


async def form(request: web.Request) -> web.Response:
    """Take a multipart form; answer the hash of each part."""
    hashes = {}
    async for part in await request.multipart():
        hashes[part.name] = hashlib.sha256(await part.read(decode=True)).hexdigest()
    return web.json_response(hashes)


async def packed(request: web.Request) -> web.Response:
    coding = request.match_info["coding"]
    assert coding in request.headers.get("Accept-Encoding", coding)
    return web.Response(body=PACKERS[coding](TEXT), headers={"Content-Encoding": coding})


async def streamed(request: web.Request) -> web.StreamResponse:
    """Answer in chunks with pauses, as logs and event streams do."""
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await answer.prepare(request)
    for number in range(20):
        await answer.write(f"data: {number}\n\n".encode())
        await asyncio.sleep(0.02)
    await answer.write_eof()
    return answer


async def socket(request: web.Request) -> web.WebSocketResponse:
    """Give each message back."""
    answer = web.WebSocketResponse(max_msg_size=8 << 20)
    await answer.prepare(request)
    async for message in answer:
        if message.type is WSMsgType.TEXT:
            await answer.send_str(message.data)
        elif message.type is WSMsgType.BINARY:
            await answer.send_bytes(message.data)
    return answer


async def moved(request: web.Request) -> web.Response:
    raise web.HTTPFound("/text", headers={"Set-Cookie": "a=b; Path=/"})


async def empty(request: web.Request) -> web.Response:
    return web.Response(status=int(request.match_info["code"]))


async def page(_: web.Request) -> web.Response:
    return web.Response(text=PAGE, content_type="text/html")


_done = asyncio.Event()


async def held(_: web.Request) -> web.Response:
    """Let a page load until it has said what it found: that is when browsers print it."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(_done.wait(), 15)
    _done.clear()
    return web.Response(status=204)


async def done(_: web.Request) -> web.Response:
    _done.set()
    return web.Response(status=204)


async def slow(_: web.Request) -> web.Response:
    await asyncio.sleep(1.5)
    return web.Response(text="late")


def application() -> web.Application:
    made = web.Application(client_max_size=1 << 30)
    made.router.add_route("*", "/echo", echo)
    made.router.add_route("*", "/digest", digest)
    made.router.add_static("/site", "site", show_index=True)
    made.add_routes(
        [
            web.post("/form", form), web.get("/packed/{coding}", packed), web.get("/streamed", streamed),
            web.get("/ws", socket), web.get("/moved", moved), web.get("/code/{code}", empty),
            web.get("/page", page), web.get("/slow", slow), web.get("/held", held), web.post("/done", done),
            web.get("/text", lambda _: _text()),
        ]
    )  # fmt: skip
    return made


async def _text() -> web.Response:
    answer = web.Response(text=TEXT.decode())
    answer.enable_compression()
    return answer


async def client(base: str) -> None:
    """Be an aiohttp client: many requests at once over few connections, then a WebSocket."""
    async with ClientSession(base) as session:

        async def sent(number: int) -> None:
            data = bytes([number]) * number * 1000
            async with session.post("/echo", data=data) as answer:
                assert await answer.read() == data

        await asyncio.gather(*(sent(number) for number in range(40)))
        async with session.get("/packed/gzip") as answer:
            assert await answer.read() == TEXT
        for compress in (0, 15):
            async with session.ws_connect("/ws", compress=compress, max_msg_size=8 << 20) as socket:
                for text in ("", "short", "Grüße 漢字" * 1000):
                    await socket.send_str(text)
                    assert await socket.receive_str() == text
                await socket.send_bytes(bytes(range(256)) * 4000)
                assert await socket.receive_bytes() == bytes(range(256)) * 4000
                await socket.ping()
    print("all alike")


if __name__ == "__main__":
    if sys.argv[1] == "client":
        asyncio.run(client(sys.argv[2]))
    else:
        web.run_app(application(), port=int(sys.argv[1]), print=lambda *_: None)
