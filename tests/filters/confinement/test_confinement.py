"""A confined process is refused what it may not, and still does its work; each attempt in a process of its own."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from filters.confinement.landlock import landlock_abi

PREPARE = """
import ctypes, errno, json, os, socket, subprocess, sys
from pathlib import Path
from filters.confinement.landlock import restrict_files
from filters.confinement.seccomp import restrict_calls
def attempt(what):
    try:
        what()
    except OSError as error:
        return errno.errorcode[error.errno]
    return ""
def raw(*arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(*arguments) < 0:
        raise OSError(ctypes.get_errno(), "")
"""


def run(program: str, *arguments: object) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-c", PREPARE + program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = json.loads(done.stdout)
    return found


FILES = """
readable, other, writable = map(Path, sys.argv[1:4])
before = os.open(other / "secret", os.O_RDONLY)
assert restrict_files([readable], [writable], alone=sys.argv[4] == "alone")
def connect():
    with socket.create_server(("127.0.0.1", 0)):
        pass
print(json.dumps({
    "read allowed": attempt(lambda: (readable / "file").read_text()),
    "list allowed": attempt(lambda: os.listdir(readable)),
    "write readable": attempt(lambda: (readable / "file").write_text("x")),
    "make in readable": attempt(lambda: (readable / "new").write_text("x")),
    "read other": attempt(lambda: (other / "secret").read_text()),
    "list other": attempt(lambda: os.listdir(other)),
    "read by ..": attempt(lambda: (readable / ".." / "other" / "secret").read_text()),
    "read by link": attempt(lambda: (readable / "link").read_text()),
    "write writable": attempt(lambda: (writable / "new").write_text("x")),
    "clear writable": attempt(lambda: (writable / "empty").rmdir()),
    "clear readable": attempt(lambda: (readable / "empty").rmdir()),
    "make a directory": attempt(lambda: (writable / "directory").mkdir()),
    "execute": attempt(lambda: os.execv("/bin/true", ["true"])),
    "read what was open": attempt(lambda: os.read(before, 1)),
    "bind": attempt(connect),
    "signal": attempt(lambda: os.kill(os.getppid(), 0)),
}))
"""


@pytest.fixture
def places(tmp_path: Path) -> tuple[Path, Path, Path]:
    for name in ("readable", "other", "writable"):
        (tmp_path / name).mkdir()
    for name in ("readable", "writable"):
        (tmp_path / name / "empty").mkdir()
    (tmp_path / "readable/file").write_text("text")
    (tmp_path / "other/secret").write_text("secret")
    (tmp_path / "readable/link").symlink_to(tmp_path / "other/secret")
    return tmp_path / "readable", tmp_path / "other", tmp_path / "writable"


needs_landlock = pytest.mark.skipif(not landlock_abi(), reason="this kernel has no Landlock")


@needs_landlock
@pytest.mark.parametrize("alone", [False, True])
def test_only_named_directories_are_reached(places: tuple[Path, Path, Path], alone: bool) -> None:
    found = run(FILES, *places, "alone" if alone else "with others")
    refused = {name for name, why in found.items() if why in ("EACCES", "EPERM")}
    expected = {
        "write readable",
        "make in readable",
        "clear readable",
        "make a directory",
        "read other",
        "list other",
        "read by ..",
        "read by link",
        "execute",
    }
    assert refused == expected | ({"bind", "signal"} if alone and landlock_abi() >= 6 else set())


@needs_landlock
def test_it_can_not_be_undone(places: tuple[Path, Path, Path]) -> None:
    found = run(
        """
readable, other = map(Path, sys.argv[1:3])
assert restrict_files([readable], alone=False)
assert restrict_files([readable, Path("/")], alone=False)
print(json.dumps({"read other": attempt(lambda: (other / "secret").read_text())}))
""",
        *places,
    )
    assert found == {"read other": "EACCES"}


CALLS = """
families = [int(one) for one in sys.argv[1].split(",") if one]
assert restrict_calls(families=families)
def socket_of(family):
    return lambda: socket.socket(family, socket.SOCK_STREAM if family != socket.AF_NETLINK else socket.SOCK_RAW).close()
print(json.dumps({
    "execute": attempt(lambda: os.execv("/bin/true", ["true"])),
    "start a program": attempt(lambda: subprocess.run(["/bin/true"])),
    "inet": attempt(socket_of(socket.AF_INET)),
    "inet6": attempt(socket_of(socket.AF_INET6)),
    "packet": attempt(socket_of(socket.AF_PACKET)),
    "netlink": attempt(socket_of(socket.AF_NETLINK)),
    "high half": attempt(lambda: raw(41, ctypes.c_ulong(1 << 32 | socket.AF_INET), socket.SOCK_STREAM, 0)),
    "unix": attempt(socket_of(socket.AF_UNIX)),
    "ptrace": attempt(lambda: raw(101, 16, os.getppid(), 0, 0)),
    "namespace": attempt(lambda: raw(272, 0x10000000)),
    "clone into a namespace": attempt(lambda: raw(56, 0x10000000, 0, 0, 0, 0)),
    "io_uring": attempt(lambda: raw(425, 1, ctypes.create_string_buffer(120))),
    "thread": attempt(lambda: __import__("threading").Thread(target=int).start()),
    "pipe": attempt(lambda: os.pipe()),
}))
"""


@pytest.mark.parametrize("families", ["", "1"])
def test_dangerous_calls_are_refused(families: str) -> None:
    found = run(CALLS, families)
    passed = {"thread", "pipe"} | ({"unix"} if families else set())
    assert {name for name, why in found.items() if not why} == passed
    assert set(found.values()) - {""} == {"EPERM"}


CONFINED = """
from filters.inspection.worker import confinement
from filters.inspection.spec import InspectionSpec
from filters.inspection.stream import Job
from filters.inspection.worker.judge_process import judge_here
if sys.argv[1] == "confine_inspector":
    confinement.start_forkserver()
done = confinement.confine_judge() if sys.argv[1] == "confine_judge" else confinement.confine_inspector(None)
eicar = b"X5O!P%@AP[4\\\\PZX54(P^)7CC)7}$" + b"EICAR-STANDARD-ANTIVIRUS-TEST-FILE!$H+H*"
import tempfile
def spool():
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 100000)
print(json.dumps({
    "done": ",".join(done),
    "judges": judge_here(InspectionSpec(), Job(1, None, "", "", eicar, whole=True))[0].reason,
    "keeps a large object": attempt(spool),
    "read state": attempt(lambda: os.listdir("/var/lib")),
    "read passwords": attempt(lambda: Path("/etc/passwd").read_text()),
    "inet": attempt(lambda: socket.socket().close()),
    "execute": attempt(lambda: os.execv("/bin/true", ["true"])),
}))
"""


@needs_landlock
@pytest.mark.parametrize("how", ["confine_inspector", "confine_judge"])
def test_what_is_confined_still_inspects(how: str) -> None:
    found = run(CONFINED, how)
    assert found == {
        "done": f"landlock {landlock_abi()},seccomp",
        "judges": "malware",
        "keeps a large object": "",
        "read state": "EACCES",
        "read passwords": "EACCES",
        "inet": "EPERM",
        "execute": "EPERM",
    }


def test_says_so_where_the_kernel_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from filters.confinement import landlock, seccomp

    absent: Callable[[], None] = lambda: None  # noqa: E731
    monkeypatch.setattr(landlock, "landlock_abi", lambda: 0)
    monkeypatch.setattr(seccomp, "_load", absent)
    assert landlock.restrict_files([], alone=True) is False
    assert seccomp.restrict_calls() is False
