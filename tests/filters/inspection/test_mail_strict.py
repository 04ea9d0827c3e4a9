"""Mail against a lenient reader: of no mail does it get the test file out of what was let through."""

from tests.filters.inspection.drive import EICAR, UP, exchange
from tests.filters.inspection.mail_grid import grid, readings
from tests.filters.inspection.test_protocols import mail, smtp


def let_through(message: bytes) -> bytes:
    """What a server has of a message, when it has all of it; an unfinished one is none."""
    driven = exchange(smtp(message))
    driven.inspector.close()
    return message if driven.out[UP].endswith(b"\r\n.\r\nQUIT\r\n") else b""


def test_no_lenient_reader_gets_the_test_file() -> None:
    cases = list(grid())
    missed = [name for name, said in cases if any(EICAR in one for one in readings(let_through(said)))]
    assert missed == []
    assert len(cases) > 2500


def test_the_lenient_reader_gets_the_test_file_without_us() -> None:
    assert sum(any(EICAR in one for one in readings(said)) for _, said in grid()) > 800


def test_ordinary_mail_is_let_through() -> None:
    message = mail(b"fine")
    assert let_through(message) == message
