"""git over HTTP and SSH, and apt from a repository of our own."""

import gzip
import hashlib
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.filters.inspection.drive import EICAR
from tests.lab.ordinary.nginx import start_nginx
from tests.lab.ordinary.site import RANDOM, SOURCES
from tests.lab.ordinary.ssh import start_sshd
from tests.lab.ordinary.world import World, digest, digests, need, token

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(300)]
GIT = {
    "GIT_CONFIG_COUNT": "3", "GIT_CONFIG_KEY_0": "safe.directory", "GIT_CONFIG_VALUE_0": "*",
    "GIT_CONFIG_KEY_1": "user.name", "GIT_CONFIG_VALUE_1": "somebody", "GIT_CONFIG_KEY_2": "user.email",
    "GIT_CONFIG_VALUE_2": "somebody@example.org", "GIT_TERMINAL_PROMPT": "0",
}  # fmt: skip


@pytest.fixture(scope="module")
def web(world: World) -> str:
    """nginx with git's own CGI program behind it."""
    need("nginx", "fcgiwrap", "git")
    bare = world.room("git") / "project.git"
    world.run(["git", "init", "-q", "--bare", bare], environment=GIT)
    world.run(["git", "-C", bare, "config", "http.receivepack", "true"], environment=GIT)
    port = world.port()
    room = start_nginx(world, [port], name="nginx-git")
    world.serve(["fcgiwrap", "-s", f"unix:{room}/fcgi"], room / "fcgi", environment=GIT)
    (room / "fcgi").chmod(0o666)
    return f"http://{world.ip()}:{port}"


@pytest.fixture(scope="module")
def work(world: World, web: str) -> Path:
    """A clone with much in it, pushed over HTTP."""
    clone = world.folder / "work"
    world.run(["git", "clone", "-q", f"{web}/git/project.git", clone], environment=GIT)
    shutil.copytree(
        SOURCES,
        clone / "sources",
        ignore=shutil.ignore_patterns("__pycache__", "lib-dynload", "dist-packages"),
    )
    (clone / RANDOM).write_bytes((world.folder / "site" / RANDOM).read_bytes())
    for number in range(5):
        (clone / "file.txt").write_text(f"line {number}\n" * 1000)
        commit(world, clone, f"change {number}")
    world.run(["git", "-C", clone, "push", "-q", "origin", "HEAD:main"], environment=GIT)
    return clone


def commit(world: World, clone: Path, words: str) -> None:
    for argv in (["add", "-A"], ["commit", "-q", "-m", words]):
        world.run(["git", "-C", clone, *argv], environment=GIT)


def tree(folder: Path) -> Mapping[str, str]:
    return {name: one for name, one in digests(folder).items() if not name.startswith(".git/")}


@pytest.mark.usefixtures("unharmed")
class TestGit:
    def test_push_clone_and_fetch_over_http(self, world: World, web: str, work: Path) -> None:
        for name, options in (
            ("cloned", ()),
            ("shallow", ("--depth", "1")),
            ("old", ("-c", "protocol.version=0")),
        ):
            world.run(["git", "clone", "-q", "-b", "main", *options, f"{web}/git/project.git", world.folder / name],
                      environment=GIT)  # fmt: skip
            assert tree(world.folder / name) == tree(work)
        (work / "more.txt").write_text("more\n")
        commit(world, work, "more")
        world.run(
            ["git", "-C", work, "push", "-q", "origin", "HEAD:main", "HEAD:refs/heads/other"], environment=GIT
        )
        world.run(["git", "-C", world.folder / "cloned", "pull", "-q"], environment=GIT)
        assert tree(world.folder / "cloned") == tree(work)

    def test_a_large_push_in_chunks(self, world: World, web: str, work: Path) -> None:
        """Above http.postBuffer git asks first, and then sends chunks."""
        (work / "large").write_bytes((work / RANDOM).read_bytes()[::-1])
        commit(world, work, "large")
        push = ["git", "-C", work, "-c", "http.postBuffer=65536", "push", "-q", "origin", "HEAD:main"]
        world.run(push, environment=GIT)
        heads = [world.run(["git", "-C", one, "rev-parse", name], environment=GIT).stdout
                 for one, name in ((work, "HEAD"), (world.folder / "git/project.git", "main"))]  # fmt: skip
        assert heads[0] == heads[1]

    def test_over_ssh(self, world: World, work: Path) -> None:
        shell = " ".join(map(str, ["ssh", *start_sshd(world)]))
        url, clone = f"ssh://{world.ip()}{world.folder}/git/project.git", world.folder / "over-ssh"
        world.run(
            ["git", "clone", "-q", "-b", "main", url, clone], environment={**GIT, "GIT_SSH_COMMAND": shell}
        )
        (clone / "ssh.txt").write_text("pushed over ssh\n")
        commit(world, clone, "ssh")
        world.run(
            ["git", "-C", clone, "push", "-q", "origin", "HEAD:ssh"],
            environment={**GIT, "GIT_SSH_COMMAND": shell},
        )
        assert (
            b"ssh"
            in world.run(["git", "-C", world.folder / "git/project.git", "branch"], environment=GIT).stdout
        )

    def test_a_token_in_a_pack_is_not_found(self, world: World, web: str, work: Path) -> None:
        """What we know we can't see: git packs each object with zlib, in a format that nothing here opens."""
        (work / "leak.txt").write_bytes(token() + b"\n")
        commit(world, work, "leak")
        world.run(["git", "-C", work, "push", "-q", "origin", "HEAD:leaked"], environment=GIT)


def make_package(room: Path, name: str, content: Path) -> None:
    """Make a .deb with a folder in it."""
    root = room / f"{name}-root"
    shutil.copytree(content, root / "usr/share" / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "DEBIAN").mkdir()
    (root / "DEBIAN/control").write_text(
        f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: somebody <a@example.org>\nDescription: {name}\n"
    )
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", root, room / f"pool/{name}_1.0_all.deb"], check=True,
                   capture_output=True)  # fmt: skip


@pytest.fixture(scope="module")
def repository(world: World) -> Path:
    need("dpkg-deb", "apt-get")
    room = world.room("repository")
    (room / "pool").mkdir()
    for name in ("email", "asyncio", "json", "http", "xml", "logging", "unittest"):
        make_package(room, f"test-{name}", SOURCES / name)
    bad = world.room("bad-package")
    (bad / "bad.com").write_bytes(EICAR)
    make_package(room, "test-bad", bad)
    entries = []
    for path in sorted((room / "pool").iterdir()):
        control = subprocess.run(["dpkg-deb", "-f", path], check=True, capture_output=True, text=True).stdout
        entries.append(f"{control}Filename: pool/{path.name}\nSize: {path.stat().st_size}\n"
                       f"SHA256: {digest(path.read_bytes())}\n")  # fmt: skip
    packages = "\n".join(entries).encode()
    release = "Origin: test\nSuite: test\nDate: Thu, 01 May 2025 00:00:00 UTC\nSHA256:\n"
    for name, data in (("Packages", packages), ("Packages.gz", gzip.compress(packages))):
        (room / name).write_bytes(data)
        release += f" {hashlib.sha256(data).hexdigest()} {len(data)} {name}\n"
    (room / "Release").write_text(release)
    subprocess.run(["chmod", "-R", "a+rX", room], check=True)
    return room


@pytest.fixture(scope="module")
def apt(world: World, web: str, repository: Path) -> list[object]:
    """apt-get with a configuration and state of its own: nothing of the machine's is read or written."""
    room = world.room("apt")
    for name in (
        "state/lists/partial",
        "cache/archives/partial",
        "etc/preferences.d",
        "etc/trusted.gpg.d",
        "log",
    ):
        (room / name).mkdir(parents=True)
    (room / "state/status").touch()
    (room / "etc/sources.list").write_text(f"deb [trusted=yes] {web}/repository ./\n")
    (room / "apt.conf").write_text(
        f'Dir "{room}/"; Dir::State "{room}/state"; Dir::State::status "{room}/state/status"; Dir::Cache "{room}/cache";\n'
        f'Dir::Etc "{room}/etc"; Dir::Log "{room}/log"; Dir::Etc::parts "none"; Dir::Etc::sourceparts "none";\n'
        'APT::Sandbox::User "root"; Acquire::Languages "none"; Acquire::Retries "0"; Acquire::http::Proxy "DIRECT";\n'
    )
    return ["env", f"APT_CONFIG={room}/apt.conf", f"TMPDIR={room}", "apt-get", "-q"]


@pytest.mark.usefixtures("unharmed")
def test_apt_updates_and_downloads(world: World, apt: list[object], repository: Path) -> None:
    got = world.folder / "apt"
    world.run([*apt, "update"])
    names = [path.name.split("_")[0] for path in (repository / "pool").iterdir() if "bad" not in path.name]
    world.run(["env", "-C", got, *apt[1:], "download", *names])
    assert {path.name: digest(path.read_bytes()) for path in got.glob("*.deb")} == {
        path.name: digest(path.read_bytes())
        for path in (repository / "pool").iterdir()
        if "bad" not in path.name
    }
    assert b"Hit:2" in world.run([*apt, "update"]).stdout


def test_apt_downloads_a_package_with_malware(world: World, apt: list[object]) -> None:
    world.run([*apt, "update"])
    got = world.folder / "apt"
    found = world.stopped(["env", "-C", got, *apt[1:], "download", "test-bad"], status=100)
    assert found & {"malware.eicar", "yara.eicar_test_file"}
    assert not list(got.glob("test-bad*"))
