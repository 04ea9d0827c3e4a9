"""What a guest may say to its host: one way to say each thing, and nothing else is understood."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostlink.errors import LinkError
from hostlink.reports import (
    MAX_LINE,
    MAX_SEQUENCE,
    AuditHead,
    GatewayFailed,
    Lines,
    Report,
    Up,
    encode,
    parse_line,
)

REPORTS: st.SearchStrategy[Report] = st.one_of(
    st.just(Up()),
    st.builds(GatewayFailed, st.from_regex(r"[a-z]{1,20}(-[a-z]{1,20}){0,4}", fullmatch=True)),
    st.builds(AuditHead, st.integers(1, MAX_SEQUENCE), st.binary(min_size=32, max_size=32)),
)
HASH = b"ab" * 32


@given(st.lists(REPORTS, max_size=6), st.integers(1, 40))
def test_gives_back_what_was_written_however_it_is_cut(reports: list[Report], piece: int) -> None:
    stream = b"".join(map(encode, reports))
    lines = Lines()
    found = [one for at in range(0, len(stream), piece) for one in lines.feed(stream[at : at + piece])]
    assert found == reports
    assert all(len(encode(one)) <= MAX_LINE for one in reports)


@pytest.mark.parametrize(
    "line",
    [
        b"", b" ", b"up ", b"UP", b"up\r", b"up now", b"\0up", b"down",
        b"gateway-failed", b"gateway-failed ", b"gateway-failed pcr mismatch", b"gateway-failed PCR-MISMATCH",
        b"gateway-failed pcr-mismatch\r", b"gateway-failed -pcr", b"gateway-failed pcr-", b"gateway-failed " + b"a" * 21,
        b"gateway-failed a-b-c-d-e-f", "gateway-failed naïve".encode(), b"gateway-failed pcr-mismatch 1",
        b"audit-head 1 ab", b"audit-head 0 " + HASH, b"audit-head 01 " + HASH, b"audit-head -1 " + HASH, b"audit-head +1 " + HASH,
        b"audit-head 1  " + HASH, b"audit-head 1 " + HASH.upper(), b"audit-head 1 " + HASH + b"a", b"audit-head 1 0x" + HASH[2:],
        b"audit-head 9223372036854775808 " + HASH, b"audit-head 1_0 " + HASH, "audit-head ١ ".encode() + HASH,
    ],
    ids=repr,
)  # fmt: skip
def test_rejects_what_is_no_report(line: bytes) -> None:
    with pytest.raises(LinkError, match="expected up, gateway-failed CHECK or audit-head") as raised:
        parse_line(line)
    assert raised.value.code == "bad-report"
    (found,) = Lines().feed(line + b"\n")
    assert isinstance(found, LinkError)


def test_rejects_line_that_is_too_long_once_and_goes_on_behind_it() -> None:
    lines = Lines()
    found = [one for _ in range(100) for one in lines.feed(b"x" * MAX_LINE)]
    found += lines.feed(b"\nup\n")
    assert [type(one) for one in found] == [LinkError, Up]


def test_keeps_little_of_a_line_without_an_end() -> None:
    lines = Lines()
    list(lines.feed(b"x" * (1 << 20)))
    assert len(lines._rest) < MAX_LINE


def test_its_refusals_are_short_and_printable() -> None:
    for line in (bytes(range(11, 127)), "\N{BELL}\x1b[2J".encode(), b"\xff" * 500):
        (error, *_) = Lines().feed(line + b"\n")
        assert isinstance(error, LinkError)
        assert error.message.isprintable()
        assert len(error.message) < 400
