"""A request's target as users' rules see it: `/./`, `//` and `/../` resolved, in one pass."""

import time

import pytest

from filters.inspection.protocols.http.buffers import normal_uri, read_uri


@pytest.mark.parametrize(
    ("target", "normal"),
    [
        (b"/a/b?x=/../%41", b"/a/b?x=/../A"), (b"http://h/a/../b", b"/b"), (b"/a/./b//c/", b"/a/b/c/"), (b"/a/b/c/../../d", b"/a/d"),
        (b"/%2e%2e/a", b"/a"), (b"/../../a/..", b"/"), (b"/a/../../b", b"/b"), (b"/..", b"/"), (b"/a/..", b"/"), (b"/a/b/..", b"/a/"), (b"/a/.", b"/a/"), (b"/a/b/./..", b"/a/"), (b"/a/%2e", b"/a/"), (b"http://h", b""),
        (b"/../admin.php?a=/../b", b"/admin.php?a=/../b"), (b"/..a/..b", b"/..a/..b"), (b"/a/b/../", b"/a/"), (b"//.//a", b"/a"), (b"*", b"*"), (b"/", b"/"),
        (b"/a.php?f=php://filter/x", b"/a.php?f=php://filter/x"), (b"/a/http://h/b", b"/a/http:/h/b"), (b"/a/...", b"/a/..."), (b"/a/.b/..c", b"/a/.b/..c"),
    ],
)  # fmt: skip
def test_a_path_is_resolved(target: bytes, normal: bytes) -> None:
    assert normal_uri(target) == normal


@pytest.mark.parametrize(
    ("target", "other"),
    [
        (b"/a\\b", b"/a/b"), (b"/a%5cb", b"/a/b"), (b"/a\\..\\etc\\passwd", b"/etc/passwd"), (b"/%u0041", b"/A"), (b"/%u002e%u002E/%uff41", b"/a"), (b"/x%u005cy", b"/x/y"),
        (b"/a?x=%u0041\\%5c", b"/a?x=A\\\\"), (b"http://h\\x/y", b"/x/y"), (b"/%u4e2d", "/中".encode()),
    ],
)  # fmt: skip
def test_a_target_that_some_servers_read_otherwise_is_read_both_ways(target: bytes, other: bytes) -> None:
    assert read_uri(target) == [normal_uri(target), other]


@pytest.mark.parametrize("target", [b"/a/b?x", b"/%u00", b"/a?x=\\", b"*", b"/%41", b"/a/."])
def test_a_target_that_all_read_alike_is_read_once(target: bytes) -> None:
    assert read_uri(target) == [normal_uri(target)]


def test_long_paths_and_many_steps_up_cost_little() -> None:
    began = time.perf_counter()
    assert normal_uri(b"/a" * 13_000 + b"/.." * 13_000 + b"/b") == b"/b"
    assert normal_uri(b"/" + b"a" * 60_000) == b"/" + b"a" * 60_000
    assert time.perf_counter() - began < 0.5
