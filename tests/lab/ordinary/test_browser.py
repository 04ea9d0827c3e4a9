"""A real browser: a page with everything that pages load, and downloads that are stopped."""

import os
import re
import sys
import zipfile
from pathlib import Path

import pytest

from tests.filters.inspection.drive import EICAR
from tests.lab.ordinary.world import World, digest, need, token

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(300)]
BROWSER = (
    "chromium-headless-shell",
    "--no-sandbox",
    "--disable-gpu",
    "--dump-dom",
    "--virtual-time-budget=20000",
)
SCRIPT = """
const said = document.getElementById("said");
const get = async (url, options) => (await fetch(url, options)).arrayBuffer();
const sum = (buffer) => new Uint8Array(buffer).reduce((a, b) => (a * 31 + b) >>> 0, 7);
async function all() {
  const out = [];
  out.push("random=" + sum(await get("/site/random.bin")));
  out.push("text=" + (await (await fetch("/text")).text()).length);
  out.push("posted=" + (await get("/echo", {method: "POST", body: new Uint8Array(300000)})).byteLength);
  const form = new FormData(); form.append("file", new Blob(["some words"]), "file.txt"); form.append("field", "Grüße");
  out.push("form=" + (await (await fetch("/form", {method: "POST", body: form})).json()).file.slice(0, 8));
  const many = await Promise.all(Array.from({length: 24}, (_, n) => fetch("/site/picture.png?" + n).then(r => r.blob())));
  out.push("many=" + many.reduce((a, b) => a + b.size, 0));
  const stream = (await fetch("/streamed")).body.getReader(); let size = 0;
  for (let part; !(part = await stream.read()).done;) size += part.value.length;
  out.push("streamed=" + size);
  out.push("socket=" + await new Promise((done, no) => {
    const socket = new WebSocket("ws://" + location.host + "/ws"); let text = "";
    socket.onopen = () => { socket.send("first"); socket.send("x".repeat(100000)); socket.send(new Uint8Array(70000)); };
    socket.onmessage = (m) => { text += (m.data.length || m.data.size) + ","; if (m.data.size) { socket.close(); done(text); } };
    socket.onerror = () => no("socket");
  }));
  const picture = document.getElementById("picture");
  out.push("picture=" + picture.naturalWidth + " colour=" + getComputedStyle(said).color);
  return out.join(" ");
}
const tell = (text) => { said.textContent = "[" + text + "]"; return fetch("/done", {method: "POST"}); };
fetch("/slow").then(() => all()).then(tell, error => tell("error " + error));
"""


@pytest.fixture(scope="module")
def base(world: World) -> str:
    need("chromium-headless-shell", "aiohttp")
    root, port = Path(__file__).parents[3], world.port()
    (world.folder / "site/page.css").write_text("p { color: rgb(1, 2, 3); }\n")
    (world.folder / "site/page.js").write_text(SCRIPT)
    argv = [sys.executable, root / "tests/lab/ordinary/application.py", port]
    world.serve(argv, port, environment={"PYTHONPATH": str(root)})
    return f"http://{world.ip()}:{port}"


def browse(world: World, url: str) -> str:
    profile = f"--user-data-dir={world.folder}/browser-{os.urandom(4).hex()}"
    dom = world.run([*BROWSER, profile, url]).stdout.decode()
    return (re.findall(r"\[(.*)\]", dom) or [dom])[0]


@pytest.mark.usefixtures("unharmed")
def test_a_page_with_all_that_pages_have(world: World, site: Path, base: str) -> None:
    picture, value = (site / "picture.png").stat().st_size, 7
    for byte in (site / "random.bin").read_bytes():
        value = (value * 31 + byte) & 0xFFFFFFFF
    assert browse(world, f"{base}/page") == (
        f"random={value} text=196000 posted=300000 form={digest(b'some words')[:8]} many={24 * picture} streamed=190 "
        "socket=5,100000,70000, picture=64 colour=rgb(1, 2, 3)"
    )


@pytest.mark.parametrize("kind", ["token", "zip"])
def test_a_page_that_loads_what_must_not_pass(world: World, site: Path, base: str, kind: str) -> None:
    bad = site / "loaded"
    if kind == "token":
        bad.write_bytes(b"some words " + token() + b"\n")
    else:
        with zipfile.ZipFile(bad, "w", zipfile.ZIP_DEFLATED) as packed:
            packed.writestr("bad.com", EICAR)
    (site / "page.js").write_text(
        'fetch("/site/loaded").then(r => r.arrayBuffer()).then(b => "whole", e => "failed").then(t => { said.textContent = "[" + t + "]"; fetch("/done", {method: "POST"}); })'
    )
    since = world.lab.last_sequence()
    assert browse(world, f"{base}/page") == "failed"
    assert world.checks(since) & {"secrets.github-token", "malware.eicar", "yara.eicar_test_file"}
    bad.unlink()
