import pytest

from filters.flow import Protocol, Service
from filters.policy.model import ServiceRange
from filters.policy.services import parse_duration_ms, parse_label, parse_service, parse_services


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("tcp/5432", ServiceRange(Protocol.TCP, 5432, 5432)),
        ("tcp/1000-2000", ServiceRange(Protocol.TCP, 1000, 2000)),
        ("udp/1-65535", ServiceRange(Protocol.UDP, 1, 65535)),
        ("icmp/echo", ServiceRange(Protocol.ICMP, 0, 0)),
    ],
)
def test_reads_a_service(text: str, expected: ServiceRange) -> None:
    assert parse_services(text) == (expected,)


def test_any_is_everything() -> None:
    ends = [Service(Protocol.ICMP, 0), Service(Protocol.TCP, 1), Service(Protocol.UDP, 65535)]
    assert all(any(end in one for one in parse_services("any")) for end in ends)


@pytest.mark.parametrize(
    "text",
    ["", "tcp", "tcp/", "tcp/0", "tcp/65536", "tcp/9-8", "tcp/1-", "tcp/-1", "TCP/1", "tcp/1 ", "tcp/\u0661", "icmp/8", "sctp/1", "tcp/1\n"],
)  # fmt: skip
def test_rejects_what_is_no_service(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_services(text)


@pytest.mark.parametrize("text", ["any", "tcp/1-2"])
def test_rejects_several_where_one_is_wanted(text: str) -> None:
    with pytest.raises(ValueError, match="one service"):
        parse_service(text)


@pytest.mark.parametrize("text", ["tcp/5432", "udp/53", "icmp/echo"])
def test_a_service_is_written_as_it_is_read(text: str) -> None:
    assert str(parse_service(text)) == text


@pytest.mark.parametrize(
    ("text", "ms"), [("800ms", 800), ("3s", 3000), ("5m", 300_000), ("8h", 28_800_000), ("1d", 86_400_000)]
)
def test_reads_durations(text: str, ms: int) -> None:
    assert parse_duration_ms(text) == ms


@pytest.mark.parametrize("text", ["", "5", "0s", "-1s", "1.5s", "5 m", "5w", "9999999999s", "5m\n"])
def test_rejects_what_is_no_duration(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration_ms(text)


@pytest.mark.parametrize("text", ["", "-a", "a b", "a\n", "a" * 65, "\x1b[2J", "\u00e4"])
def test_rejects_what_is_no_label(text: str) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        parse_label(text)
