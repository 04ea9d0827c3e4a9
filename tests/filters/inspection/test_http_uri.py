"""A request's target as users' rules see it: `/./`, `//` and `/../` resolved, in one pass."""

import time

import pytest

from filters.inspection.protocols.http.buffers import normal_uri


@pytest.mark.parametrize(
    ("target", "normal"),
    [
        (b"/a/b?x=/../%41", b"/a/b?x=/../A"), (b"http://h/a/../b", b"/b"), (b"/a/./b//c/", b"/a/b/c/"), (b"/a/b/c/../../d", b"/a/d"),
        (b"/%2e%2e/a", b"/a"), (b"/../../a/..", b"/"), (b"/a/../../b", b"/b"), (b"/..", b"/"), (b"/a/..", b"/"), (b"/a/b/..", b"/a"), (b"/a/.", b"/a"), (b"http://h", b""),
        (b"/../admin.php?a=/../b", b"/admin.php?a=/../b"), (b"/..a/..b", b"/..a/..b"), (b"/a/b/../", b"/a/"), (b"//.//a", b"/a"), (b"*", b"*"), (b"/", b"/"),
        (b"/a.php?f=php://filter/x", b"/a.php?f=php://filter/x"), (b"/a/http://h/b", b"/a/http:/h/b"), (b"/a/...", b"/a/..."), (b"/a/.b/..c", b"/a/.b/..c"),
    ],
)  # fmt: skip
def test_a_path_is_resolved(target: bytes, normal: bytes) -> None:
    assert normal_uri(target) == normal


def test_long_paths_and_many_steps_up_cost_little() -> None:
    began = time.perf_counter()
    assert normal_uri(b"/a" * 13_000 + b"/.." * 13_000 + b"/b") == b"/b"
    assert normal_uri(b"/" + b"a" * 60_000) == b"/" + b"a" * 60_000
    assert time.perf_counter() - began < 0.5
