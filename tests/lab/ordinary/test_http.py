"""curl, wget, requests, aiohttp and Python's http.server through inspected rules, and what is stopped all the same."""

import filecmp
import json
import random
import sys
import zipfile
from pathlib import Path

import pytest

from tests.filters.inspection.drive import EICAR
from tests.lab.ordinary.application import PACKERS, TEXT
from tests.lab.ordinary.nginx import start_nginx
from tests.lab.ordinary.site import RANDOM
from tests.lab.ordinary.world import (
    NO_OBJECTS,
    PYTHON,
    RANGES_TOO,
    STRICT,
    World,
    digest,
    digests,
    need,
    token,
)

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(300)]
CURL = ("curl", "-sS", "--fail", "-m", "30")


@pytest.fixture(scope="module")
def app(world: World) -> str:
    port = world.port()
    world.serve([sys.executable, Path(__file__).parents[3] / "tests/lab/ordinary/application.py", port], port,
                environment={"PYTHONPATH": str(Path(__file__).parents[3])})  # fmt: skip
    return f"http://{world.ip()}:{port}"


@pytest.fixture(scope="module")
def nginx(world: World) -> str:
    need("nginx")
    backend = world.port()
    world.serve([PYTHON, "-m", "http.server", backend, "-d", world.folder / "site"], backend, peer="ops")
    port = world.port()
    start_nginx(
        world, [port, RANGES_TOO, NO_OBJECTS, STRICT["http"]], backend=f"http://{world.ip('ops')}:{backend}/"
    )
    return f"http://{world.ip()}:{port}"


@pytest.mark.usefixtures("unharmed")
class TestCurl:
    def test_get_and_head(self, world: World, site: Path, nginx: str) -> None:
        got = world.folder / "got"
        for name in (
            RANDOM,
            "empty.txt",
            "picture.png",
            "sources.zip",
            "sources.tar.xz",
            "log.gz",
            "table.csv",
        ):
            world.run([*CURL, "-o", got, f"{nginx}/{name}"])
            assert filecmp.cmp(got, site / name, shallow=False)
        head = world.run([*CURL, "-I", f"{nginx}/{RANDOM}"]).stdout
        assert b"Content-Length: 3145728\r\n" in head
        head = world.run([*CURL, "-I", f"http://{world.ip()}:{STRICT['http']}/line.txt"]).stdout
        assert head.startswith(b"HTTP/1.1 200")

    def test_uploads_of_every_framing(self, world: World, site: Path, app: str) -> None:
        data = (site / RANDOM).read_bytes()
        post = [*CURL, f"{app}/digest", "-H", "Content-Type: application/octet-stream"]
        for framing in (["--data-binary", "@-"], ["-T", "-"], ["-T", "-", "-H", "Expect: 100-continue"],
                        ["-T", site / RANDOM], ["--http1.0", "--data-binary", "@-"]):  # fmt: skip
            assert world.run([*post, *framing], data=data).stdout.decode() == digest(data)
        assert world.run([*CURL, "-d", "a=1&b=2", f"{app}/echo"]).stdout == b"a=1&b=2"
        assert world.run([*CURL, "-d", "", f"{app}/echo"]).stdout == b""

    def test_forms_with_files(self, world: World, site: Path, app: str) -> None:
        files = {
            "one": "picture.png",
            "two": "umlaut äöü 100%.txt",
            "three": "sources.zip",
            "four": "empty.txt",
        }
        form = [word for name, file in files.items() for word in ("-F", f"{name}=@{site / file}")]
        got = json.loads(world.run([*CURL, *form, "-F", "word=some words", f"{app}/form"]).stdout)
        wanted = {name: digest((site / file).read_bytes()) for name, file in files.items()}
        assert got == {**wanted, "word": digest(b"some words")}

    @pytest.mark.parametrize("coding", list(PACKERS))
    def test_packed_answers(self, world: World, app: str, coding: str) -> None:
        assert world.run([*CURL, "--compressed", f"{app}/packed/{coding}"]).stdout == TEXT

    def test_nginx_packs_as_it_sends(self, world: World, site: Path, nginx: str) -> None:
        for coding in ("gzip", "br"):
            argv = [*CURL, "--compressed", "-H", f"Accept-Encoding: {coding}", "-D", "-", "-o"]
            head = world.run([*argv, world.folder / "got", f"{nginx}/table.csv"]).stdout
            assert f"Content-Encoding: {coding}\r\n".encode() in head
            assert filecmp.cmp(world.folder / "got", site / "table.csv", shallow=False)

    def test_ranges_and_resuming(self, world: World, site: Path, nginx: str) -> None:
        base, got = f"http://{world.ip()}:{RANGES_TOO}", world.folder / "resumed"
        whole = (site / RANDOM).read_bytes()
        assert world.run([*CURL, "-r", "1000-1999", f"{base}/{RANDOM}"]).stdout == whole[1000:2000]
        several = world.run([*CURL, "-r", "0-9,100-109", f"{base}/{RANDOM}"]).stdout
        assert whole[100:110] in several
        got.write_bytes(whole[:1234567])
        world.run([*CURL, "-C", "-", "-o", got, f"{base}/{RANDOM}"])
        assert got.read_bytes() == whole
        got.write_bytes(whole[:234567])
        world.run(["wget", "-q", "--continue", "-O", got, f"{base}/{RANDOM}"])
        assert got.read_bytes() == whole

    def test_many_urls_over_one_connection(self, world: World, site: Path, nginx: str) -> None:
        names = [str(one.relative_to(site)) for one in sorted((site / "deep").rglob("*.py"))]
        room = world.room("many")
        urls = [word for name in names * 3 for word in ("-o", str(room / Path(name).name), f"{nginx}/{name}")]
        said = world.run([*CURL, "-w", "%{num_connects} ", *urls]).stdout.split()
        assert sum(map(int, said)) == 1
        assert digests(room) == {Path(name).name: digest((site / name).read_bytes()) for name in names}
        world.run([*CURL, "-Z", "--parallel-immediate", *urls])

    def test_answers_without_a_body(self, world: World, app: str, nginx: str) -> None:
        for code in (204, 205, 304, 404, 500):
            said = world.run(["curl", "-sS", "-w", "%{http_code}", "-o", "/dev/null", f"{app}/code/{code}"])
            assert said.stdout == str(code).encode()
        assert world.run([*CURL, "-L", "-c", "-", f"{app}/moved"]).stdout.startswith(TEXT)
        stamp = ["-z", world.folder / "site/line.txt", "-w", "%{http_code}"]
        assert world.run([*CURL, *stamp, f"{nginx}/line.txt"]).stdout == b"304"
        assert world.run([*CURL, "-X", "OPTIONS", "-i", f"{app}/echo"]).stdout.startswith(b"HTTP/1.1 200")

    def test_put_and_delete(self, world: World, site: Path, nginx: str) -> None:
        for name in (RANDOM, "empty.txt"):
            world.run([*CURL, "-T", site / name, f"{nginx}/uploads/some/{name}"])
            assert filecmp.cmp(world.folder / "nginx/uploads/some" / name, site / name, shallow=False)
            world.run([*CURL, "-X", "DELETE", f"{nginx}/uploads/some/{name}"])

    def test_slow_and_streamed_answers(self, world: World, app: str) -> None:
        assert world.run([*CURL, f"{app}/slow"]).stdout == b"late"
        said = world.run([*CURL, "-N", f"{app}/streamed"]).stdout
        assert said == b"".join(b"data: %d\n\n" % number for number in range(20))


@pytest.mark.usefixtures("unharmed")
class TestOthers:
    def test_wget_copies_a_site(self, world: World, site: Path, nginx: str) -> None:
        need("wget")
        room = world.room("mirror")
        world.run(["wget", "-q", "-r", "-np", "-nH", "-R", "index.html*", "-P", room, f"{nginx}/"])
        assert digests(room) == digests(site)

    def test_through_nginx_as_a_proxy(self, world: World, site: Path, nginx: str) -> None:
        for name in (RANDOM, "table.csv", "empty.txt"):
            world.run([*CURL, "--compressed", "-o", world.folder / "got", f"{nginx}/application/{name}"])
            assert filecmp.cmp(world.folder / "got", site / name, shallow=False)

    def test_pythons_http_server(self, world: World, site: Path) -> None:
        port = world.port()
        world.serve([PYTHON, "-m", "http.server", port, "-d", site], port)
        room = world.room("mirror-python")
        world.run(["wget", "-q", "-r", "-np", "-nH", "-P", room, "-R", "index.html*",
                   f"http://{world.ip()}:{port}/"])  # fmt: skip
        assert digests(room) == digests(site)

    def test_requests(self, world: World, site: Path, app: str, nginx: str) -> None:
        need("requests")
        code = f"""
import hashlib, requests
s = requests.Session()
data = open({str(site / RANDOM)!r}, "rb").read()
assert s.get({nginx!r} + "/{RANDOM}").content == data
assert s.get({nginx!r} + "/table.csv").content == open({str(site / "table.csv")!r}, "rb").read()
assert s.post({app!r} + "/echo", data=iter([data[:100], data[100:5000], b"x"])).content == data[:5000] + b"x"
assert s.post({app!r} + "/digest", data=data).text == hashlib.sha256(data).hexdigest()
assert s.post({app!r} + "/echo", json={{"a": [1, 2]}}, cookies={{"k": "v"}}, auth=("user", "none")).json() == {{"a": [1, 2]}}
assert s.post({app!r} + "/form", files={{"f": open({str(site / RANDOM)!r}, "rb")}}, data={{"k": "v"}}).json()["f"] == hashlib.sha256(data).hexdigest()
assert s.get({app!r} + "/moved").text.startswith("Lines")
assert s.head({nginx!r} + "/empty.txt").headers["Content-Length"] == "0"
"""
        world.run([PYTHON, "-c", code])

    def test_aiohttp_with_websockets(self, world: World, app: str) -> None:
        root = Path(__file__).parents[3]
        argv = [sys.executable, root / "tests/lab/ordinary/application.py", "client", app]
        assert world.run(argv, environment={"PYTHONPATH": str(root)}).stdout == b"all alike\n"

    def test_websockets(self, world: World) -> None:
        need("websockets")
        port = world.port()
        server = """
import asyncio, sys, websockets
async def echo(socket):
    async for message in socket: await socket.send(message)
async def main():
    async with websockets.serve(echo, "0.0.0.0", int(sys.argv[1]), max_size=8 << 20): await asyncio.Future()
asyncio.run(main())"""
        client = f"""
import asyncio, random, websockets
async def main():
    for compression in ("deflate", None):
        async with websockets.connect("ws://{world.ip()}:{port}", compression=compression, max_size=8 << 20) as s:
            for sent in ("", "Gr\\u00fc\\u00dfe" * 9999, b"", random.randbytes(1 << 20), b"1", ["in ", "parts"]):
                await s.send(sent)
                assert await s.recv() == ("".join(sent) if isinstance(sent, list) else sent)
            await (await s.ping())
asyncio.run(main())"""
        world.serve([PYTHON, "-c", server, port], port)
        world.run([PYTHON, "-c", client])

    def test_large_downloads(self, world: World, nginx: str) -> None:
        room = world.room("large")
        with (room / "large.bin").open("wb") as file:
            for _ in range(13):
                file.write(random.randbytes(1 << 20) * 16)
        (room / "large.bin").chmod(0o644)
        url = f"http://{world.ip()}:{NO_OBJECTS}/large/large.bin"
        said = world.run([*CURL, "-w", "%{speed_download}", "-o", world.folder / "got", url]).stdout
        assert filecmp.cmp(world.folder / "got", room / "large.bin", shallow=False)
        print(f"208 MiB through an inspector: {float(said) / 1e6:.0f} MB/s")


class TestStopped:
    """The same programs with what must not pass: these tests could fail."""

    def test_curl_uploads_a_token(self, world: World, app: str) -> None:
        secret = b"words before " + token() + b" and after\n"
        for framing in ("--data-binary", "-T"):
            word = "@-" if framing == "--data-binary" else "-"
            upload = [*CURL, framing, word, f"{app}/digest"]
            found = world.stopped(upload, data=secret, status=56)
            assert found == {"secrets.github-token"}

    def test_requests_sends_a_token_in_a_form(self, world: World, app: str) -> None:
        code = f"import requests; requests.post({app!r} + '/form', files={{'f': {token()!r}}})"
        assert world.stopped([PYTHON, "-c", code], status=1) == {"secrets.github-token"}

    def test_curl_gets_a_packed_token(self, world: World, site: Path, nginx: str) -> None:
        (site / "leak.txt").write_bytes(b"line\n" * 100 + token() + b"\n")
        (site / "leak.txt").chmod(0o644)
        get = [*CURL, "--compressed", f"{nginx}/leak.txt"]
        found = world.stopped(get)
        (site / "leak.txt").unlink()
        assert found == {"secrets.github-token"}

    def test_wget_gets_a_zip_with_malware(self, world: World, site: Path, nginx: str) -> None:
        with zipfile.ZipFile(site / "bad.zip", "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("notes.txt", "clean " * 1000)
            packed.writestr("bad.com", EICAR)
        (site / "bad.zip").chmod(0o644)
        get = ["wget", "-q", "-t", "1", "-O", world.folder / "bad", f"{nginx}/bad.zip"]
        found = world.stopped(get, status=4)
        (site / "bad.zip").unlink()
        assert found & {"malware.eicar", "yara.eicar_test_file"}

    def test_an_object_above_the_limit(self, world: World, nginx: str) -> None:
        """Where malware is looked for, objects have to be whole: 64 MiB is the most."""
        url = f"{nginx}/large/large.bin"
        found = world.stopped([*CURL, "-o", "/dev/null", url], status=56)
        assert found == {"object"}

    def test_a_part_of_an_object(self, world: World, nginx: str) -> None:
        get = [*CURL, "-r", "100-199", f"{nginx}/{RANDOM}"]
        assert world.stopped(get, status=56) == {"partial-object"}

    def test_aiohttp_says_a_token_over_a_websocket(self, world: World, app: str) -> None:
        code = f"""
import asyncio, aiohttp
async def main():
    async with aiohttp.ClientSession() as s, s.ws_connect({app!r} + "/ws", compress=15) as w:
        await w.send_str({token().decode()!r} + " ")
        print((await w.receive()).type.name)
asyncio.run(main())"""
        assert world.stopped([sys.executable, "-c", code]) == {"secrets.github-token"}
