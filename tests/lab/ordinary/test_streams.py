"""PostgreSQL, Redis, SSH, rsync, DNS and plain streams through inspected rules."""

import filecmp
import random
import re
import subprocess
from pathlib import Path

import pytest

from tests.lab.ordinary.nginx import make_certificates
from tests.lab.ordinary.site import RANDOM
from tests.lab.ordinary.ssh import start_sshd
from tests.lab.ordinary.world import PYTHON, STRICT, World, digest, digests, need, token

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm, pytest.mark.timeout(300)]
ROWS = 60000


@pytest.fixture(scope="module")
def database(world: World) -> list[object]:
    need("postgres", "psql")
    room, port = world.room("postgres"), world.port()
    (room / "password").write_text("a quiet password")
    make_certificates(room, world.ip())
    for one in ("server.key", "password"):
        (room / one).chmod(0o600)
    subprocess.run(["chown", "-R", "postgres:postgres", room], check=True)
    data = room / "data"
    init = ["initdb", "-D", data, "-A", "scram-sha-256", "--pwfile", room / "password", "-U", "postgres",
            "--no-sync", "-E", "UTF8", "--locale=C.UTF-8"]  # fmt: skip
    world.run(init, peer="db", user="postgres")
    with (data / "pg_hba.conf").open("a") as file:
        file.write("host all all all scram-sha-256\n")
    server = ["postgres", "-D", data, "-h", "0.0.0.0", "-p", port, "-k", room, "-c", "fsync=off", "-c", "ssl=on",
              "-c", f"ssl_cert_file={room}/server.pem", "-c", f"ssl_key_file={room}/server.key"]  # fmt: skip
    world.serve(server, port, user="postgres")
    return [
        "psql",
        "-X",
        "-q",
        "-A",
        "-t",
        "-v",
        "ON_ERROR_STOP=1",
        f"host={world.ip()} port={port} user=postgres",
    ]


@pytest.fixture(scope="module")
def redis(world: World) -> list[object]:
    need("redis-server", "redis-cli")
    port = world.port()
    server = [
        "redis-server",
        "--port",
        port,
        "--bind",
        "0.0.0.0",
        "--protected-mode",
        "no",
        "--save",
        "",
        "--dir",
    ]
    world.serve([*server, world.room("redis")], port)
    return ["redis-cli", "-h", world.ip(), "-p", port]


@pytest.fixture(scope="module")
def ssh(world: World) -> list[object]:
    return start_sshd(world)


@pytest.mark.usefixtures("unharmed")
class TestDatabases:
    @pytest.mark.parametrize("mode", ["disable", "prefer", "require"])
    def test_psql_asks_and_copies(self, world: World, database: list[object], mode: str) -> None:
        argv = [*database[:-1], f"{database[-1]} sslmode={mode}"]
        secret = {"PGPASSWORD": "a quiet password"}
        rows = "".join(
            f"{n}\tname {n * 31 % 977}\t{n / 3:.6f}\tsome words of text {n}\n" for n in range(ROWS)
        )
        script = (
            f"create table {mode} (id bigint, name text, part float8, words text);\n"
            f"copy {mode} from stdin;\n{rows}\\.\nselect count(*), sum(id) from {mode};\ncopy {mode} to stdout;\n"
        )
        said = world.run(argv, data=script.encode(), environment=secret).stdout.decode()
        counted, _, copied = said.partition("\n")
        assert counted == f"{ROWS}|{ROWS * (ROWS - 1) // 2}"
        wanted = [one.split("\t")[3] for one in rows.splitlines()]
        assert [one.split("\t")[3] for one in copied.splitlines()] == wanted
        binary = f"select encode(sha256(string_agg(words, ',')::bytea), 'hex') from {mode}"
        hashed = world.run([*argv, "-c", binary], environment=secret).stdout.decode().strip()
        assert hashed == digest(",".join(wanted).encode())

    def test_psql_with_a_wrong_password_hears_why(self, world: World, database: list[object]) -> None:
        done = world.run([*database, "-c", "select 1"], environment={"PGPASSWORD": "wrong"}, status=2)
        assert b"password authentication failed" in done.stderr

    def test_redis(self, world: World, site: Path, redis: list[object]) -> None:
        data = (site / RANDOM).read_bytes()[: 1 << 20]
        assert world.run([*redis, "-x", "set", "blob"], data=data).stdout == b"OK\n"
        assert world.run([*redis, "get", "blob"]).stdout[:-1] == data
        assert world.run([*redis, "incr", "number"]).stdout == b"1\n"
        pipe = b"".join(b"SET key%d value%d\r\n" % (n, n) for n in range(20000))
        assert b"replies: 20000" in world.run([*redis, "--pipe"], data=pipe).stdout
        assert world.run([*redis, "dbsize"]).stdout == b"20002\n"

    def test_commands_typed_by_hand(self, world: World, redis: list[object]) -> None:
        """A line of words in capitals looks like the beginning of HTTP, and is none."""
        need("nc")
        netcat = ["nc", "-N", *redis[2:3], redis[4]]
        assert world.run(netcat, data=b"PING\r\n").stdout == b"+PONG\r\n"
        assert (
            world.run(netcat, data=b"SET word something\r\nGET word\r\n").stdout
            == b"+OK\r\n$9\r\nsomething\r\n"
        )


@pytest.mark.usefixtures("unharmed")
class TestShells:
    def test_ssh_scp_and_sftp(self, world: World, site: Path, ssh: list[object]) -> None:
        host, got = world.ip(), world.room("copied")
        assert (
            world.run(["ssh", *ssh, host, "cat; exit 7"], data=b"in and out\n", status=7).stdout
            == b"in and out\n"
        )
        world.run(["ssh", *ssh, "-C", host, f"cat > {got}/packed"], data=(site / RANDOM).read_bytes())
        assert filecmp.cmp(got / "packed", site / RANDOM, shallow=False)
        world.run(["scp", *ssh, "-q", "-r", f"{host}:{site}", got / "site"])
        assert digests(got / "site") == digests(site)
        world.run(["scp", *ssh, "-q", "-O", site / RANDOM, f"{host}:{got}/old"])
        assert filecmp.cmp(got / "old", site / RANDOM, shallow=False)
        batch = f"put {site}/{RANDOM} {got}/put\nget {got}/put {got}/back\nls {got}\nrm {got}/put\n".encode()
        world.run(["sftp", *ssh, "-b", "-", host], data=batch)
        assert filecmp.cmp(got / "back", site / RANDOM, shallow=False)

    def test_rsync(self, world: World, site: Path, ssh: list[object]) -> None:
        need("rsync")
        room, port, got = world.room("rsync"), world.port(), world.room("rsynced")
        (room / "conf").write_text(f"use chroot = no\nuid = root\ngid = root\n[site]\npath = {site}\n")
        world.serve(["rsync", "--daemon", "--no-detach", "--port", port, "--config", room / "conf"], port)
        for options in (["-a"], ["-az"]):
            world.run(["rsync", *options, f"rsync://{world.ip()}:{port}/site/", got / f"copy{options[0]}"])
            assert digests(got / f"copy{options[0]}") == digests(site)
        shell = " ".join(map(str, ["ssh", *ssh]))
        world.run(["rsync", "-a", "-e", shell, f"{site}/", f"{world.ip()}:{got}/over-ssh"])
        assert digests(got / "over-ssh") == digests(site)


@pytest.mark.usefixtures("unharmed")
def test_names_over_tcp(world: World) -> None:
    need("dnsmasq", "dig")
    port = STRICT["dns"]
    long = ",".join(f"some words of text {n}" for n in range(60))
    world.serve(
        ["dnsmasq", "-k", "-p", port, "-C", "/dev/null", "--no-resolv", "--no-hosts", "--pid-file", "--user=nobody",
         "--address=/one.test/192.0.2.7", "--address=/one.test/2001:db8::7", "--txt-record=long.test," + long,
         "--mx-host=one.test,mail.test,10", "--srv-host=_http._tcp.test,one.test,80,1,2", "--ptr-record=7.2.0.192.in-addr.arpa,one.test"],
        port,
    )  # fmt: skip
    ask = ["dig", "+tcp", "+short", f"@{world.ip()}", "-p", port]
    assert world.run([*ask, "one.test"]).stdout == b"192.0.2.7\n"
    assert world.run([*ask, "one.test", "AAAA"]).stdout == b"2001:db8::7\n"
    assert world.run([*ask, "one.test", "MX"]).stdout == b"10 mail.test.\n"
    assert world.run([*ask, "_http._tcp.test", "SRV"]).stdout == b"1 2 80 one.test.\n"
    assert world.run([*ask, "-x", "192.0.2.7"]).stdout == b"one.test.\n"
    said = world.run([*ask, "long.test", "TXT"]).stdout
    assert re.sub(rb'" "|["\n]', b",", said).strip(b",").decode() == long
    several = ["+keepopen", "one.test", "A", "one.test", "MX", "+dnssec", "+cookie", "missing.invalid"]
    assert world.run([*ask, *several]).stdout == b"192.0.2.7\n10 mail.test.\n"


PLAIN = """
import socket, sys, threading, time
def one(c):
    with c:
        kind = c.recv(1)
        if kind == b"h":  # half-closed: answer when everything came
            import hashlib
            seen = hashlib.sha256()
            while p := c.recv(1 << 16): seen.update(p)
            c.sendall(seen.hexdigest().encode())
        elif kind == b"i":  # idle, then on
            for n in range(3): c.sendall(b"%d\\n" % n); time.sleep(1.2)
        elif kind == b"e":
            while p := c.recv(1 << 16): c.sendall(p)
        elif kind == b"n": pass
def first(c):
    with c:
        c.sendall(b"hello, who is there?\\n")
        c.sendall(b"good day, " + c.makefile("rb").readline())
def listen(port, serve):
    s = socket.create_server(("0.0.0.0", port), backlog=100)
    def loop():
        while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
    threading.Thread(target=loop).start()
listen(int(sys.argv[2]), first)
listen(int(sys.argv[1]), one)
"""


@pytest.fixture(scope="module")
def plain(world: World) -> tuple[int, int]:
    need("nc", "socat")
    port, first = world.port(), world.port()
    world.serve([PYTHON, "-c", PLAIN, port, first], port)
    return port, first


@pytest.mark.usefixtures("unharmed")
class TestPlainStreams:
    def test_half_closed_connections(self, world: World, plain: tuple[int, int]) -> None:
        data = random.randbytes(20 << 20)
        for argv in (
            ["nc", "-N", world.ip(), plain[0]],
            ["socat", "-t10", "-", f"TCP:{world.ip()}:{plain[0]}"],
        ):
            assert world.run(argv, data=b"h" + data).stdout.decode() == digest(data)

    def test_both_ways_at_once(self, world: World, plain: tuple[int, int]) -> None:
        data = random.randbytes(5 << 20)
        said = world.run(["socat", "-t10", "-", f"TCP:{world.ip()}:{plain[0]}"], data=b"e" + data)
        assert digest(said.stdout) == digest(data)

    def test_the_server_speaks_first(self, world: World, plain: tuple[int, int]) -> None:
        said = world.run(["nc", "-N", world.ip(), plain[1]], data=b"a friend\n")
        assert said.stdout == b"hello, who is there?\ngood day, a friend\n"

    def test_idle_connections_go_on(self, world: World, plain: tuple[int, int]) -> None:
        assert world.run(["nc", world.ip(), plain[0]], data=b"i").stdout == b"0\n1\n2\n"

    def test_nothing_is_an_answer_too(self, world: World, plain: tuple[int, int]) -> None:
        assert world.run(["nc", "-N", world.ip(), plain[0]], data=b"n").stdout == b""
        assert world.run(["nc", "-N", world.ip(), plain[0]], data=b"").stdout == b""
        assert world.run(["nc", "-z", world.ip(), plain[0]]).stdout == b""

    @pytest.mark.parametrize(
        "line", [b"HELLO world\n", b"SET key value\r\n", b"QUIT\r\n", b"A", b"USER somebody\r\n"]
    )
    def test_lines_in_capitals_are_not_always_http(
        self, world: World, plain: tuple[int, int], line: bytes
    ) -> None:
        echo = b"import socket,sys; s=socket.create_server(('0.0.0.0',int(sys.argv[1])))\nwhile 1:\n c=s.accept()[0]\n while p:=c.recv(99): c.sendall(p.lower())\n c.close()"
        port = world.port()
        world.serve([PYTHON, "-c", echo.decode(), port], port)
        assert world.run(["nc", "-N", world.ip(), port], data=line).stdout == line.lower()


class TestStopped:
    """The same programs with what must not pass."""

    def test_psql_copies_a_token(self, world: World, database: list[object]) -> None:
        argv, secret = [*database[:-1], f"{database[-1]} sslmode=disable"], {"PGPASSWORD": "a quiet password"}
        script = b"create temp table leaked (words text);\ncopy leaked from stdin;\n" + token() + b"\n\\.\n"
        assert world.stopped(argv, data=script, environment=secret) == {"secrets.github-token"}

    def test_redis_stores_a_token(self, world: World, redis: list[object]) -> None:
        assert world.stopped([*redis, "set", "leak", token().decode()]) == {"secrets.github-token"}
        assert world.run([*redis, "exists", "leak"]).stdout == b"0\n"

    def test_netcat_sends_a_token(self, world: World, plain: tuple[int, int]) -> None:
        netcat = ["nc", "-N", world.ip(), plain[0]]
        assert world.stopped(netcat, data=b"h some words " + token() + b"\n") == {"secrets.github-token"}

    def test_dig_asks_for_encoded_names(self, world: World) -> None:
        names = ["".join(random.choices("abcdefghijklmnop234567", k=60)) + ".leak.test" for _ in range(20)]
        ask = [
            "dig",
            "+tcp",
            "+short",
            "+tries=1",
            "+time=2",
            "+keepopen",
            f"@{world.ip()}",
            "-p",
            STRICT["dns"],
        ]
        assert world.stopped([*ask, *names]) == {"dns-tunnel"}
