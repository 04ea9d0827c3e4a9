"""Commands of mail: many of them at once, messages given up in the middle, and parts that no server asked for."""

import base64
import time

import pytest

from filters.inspection.finding import Direction
from tests.filters.inspection.drive import DOWN, EICAR, SECRET, UP, Driven, exchange
from tests.filters.inspection.suricata.drive import checks, rule, ruleset
from tests.filters.inspection.test_protocols import mail

HELLO = b"250-mail.h\r\n250-PIPELINING\r\n250 CHUNKING\r\n"
BEGIN = b"MAIL FROM:<a@h>\r\nRCPT TO:<b@h>\r\n"
OK = b"250 ok\r\n"
WHOLE = mail(b"fine")
HALVES = WHOLE[:200], WHOLE[200:]


def greeted(hello: bytes = HELLO) -> Driven:
    return Driven().feed(DOWN, b"220 mail.h ESMTP\r\n").feed(UP, b"EHLO c\r\n").feed(DOWN, hello)


def data(message: bytes) -> bytes:
    return message.replace(b"\r\n.", b"\r\n..") + b".\r\n"


def part(text: bytes, last: bytes = b"") -> bytes:
    return b"BDAT %d%s\r\n%s" % (len(text), last, text)


def commands(line: bytes, count: int) -> tuple[Driven, float]:
    """Give commands in one read, and tell how long that took."""
    driven, began = greeted(), time.perf_counter()
    driven.feed(UP, b"MAIL FROM:<a>\r\n" + line * count)
    return driven, time.perf_counter() - began


def test_recipients_without_end_are_a_limit_and_cost_little() -> None:
    driven, took = commands(b"RCPT\r\n", 43_000)
    assert driven.checks == ["recipients"]
    assert took < 1


def test_commands_that_nobody_answers_are_a_limit() -> None:
    driven, took = commands(b"NOOP\r\n", 43_000)
    assert driven.checks == ["commands"]
    assert took < 1


def test_replies_to_many_commands_cost_little() -> None:
    driven, began = greeted(), time.perf_counter()
    for _ in range(20):
        driven.feed(UP, b"NOOP\r\n" * 1000).feed(DOWN, OK * 1000)
    assert driven.findings == []
    assert time.perf_counter() - began < 5


def test_a_thousand_recipients_at_once_pass() -> None:
    driven = greeted().feed(UP, b"MAIL FROM:<a@h>\r\n" + b"RCPT TO:<b@h>\r\n" * 1000 + b"DATA\r\n")
    driven.feed(DOWN, OK * 1001 + b"354 go\r\n").feed(UP, data(WHOLE)).feed(DOWN, OK)
    driven.feed(UP, BEGIN).feed(DOWN, OK * 2)
    assert driven.findings == []
    assert driven.out == driven.sent


@pytest.mark.parametrize("reply", [OK, b"503 no\r\n"])
def test_a_message_given_up_does_not_stand_before_the_next(reply: bytes) -> None:
    driven = greeted()
    if reply == OK:
        driven.feed(UP, BEGIN).feed(DOWN, OK * 2)
    driven.feed(UP, part(b"\r\nhello\r\n")).feed(DOWN, reply).feed(UP, b"RSET\r\n").feed(DOWN, OK)
    driven.feed(UP, BEGIN + b"DATA\r\n").feed(DOWN, OK * 2 + b"354 go\r\n")
    assert driven.findings == []
    driven.feed(UP, data(mail(EICAR)))
    assert driven.cut is not None
    assert driven.cut.inside == "message/a.bin"


def test_a_refused_part_does_not_stand_before_the_next_message() -> None:
    for command in (b"EHLO c\r\n", b"MAIL FROM:<a@h>\r\n"):
        driven = greeted().feed(UP, part(b"\r\nhello\r\n")).feed(DOWN, b"503 no\r\n").feed(UP, command)
        driven.feed(DOWN, HELLO if command.startswith(b"EHLO") else OK)
        driven.feed(UP, part(mail(EICAR), b" LAST"))
        assert driven.cut is not None
        assert driven.cut.inside == "message/a.bin"


@pytest.mark.parametrize(
    "command", [b"EHLO c", b"MAIL FROM:<a@h>", b"DATA", b"RSET x", b"STARTTLS", b"HELO c"]
)
def test_what_servers_may_refuse_does_not_end_a_message(command: bytes) -> None:
    """They refuse it, keep the first half and append the second: we would judge both alone."""
    driven = greeted().feed(UP, BEGIN + part(HALVES[0])).feed(DOWN, OK * 3).feed(UP, command + b"\r\n")
    assert driven.checks == ["smtp-bdat"]


def test_a_server_may_not_go_on_behind_a_part_that_it_refused() -> None:
    driven = greeted().feed(UP, BEGIN + part(HALVES[0]) + part(HALVES[1], b" LAST"))
    assert driven.feed(DOWN, OK * 2 + b"452 full\r\n").findings == []
    assert driven.feed(DOWN, OK).checks == ["smtp-bdat"]


def test_a_part_that_a_server_takes_for_commands_is_refused() -> None:
    inside = base64.b64encode(b"key " + SECRET)
    commands = b"\r\n" + BEGIN + b"DATA\r\nContent-Transfer-Encoding: base64\r\n\r\n" + inside + b"\r\n.\r\n"
    for hello in (b"250-mail.h\r\n250 PIPELINING\r\n", OK):
        assert greeted(hello).feed(UP, part(commands, b" LAST")).checks == ["smtp-bdat"]
    for length in (b"4294967300", b"99999999999999999999"):  # counted with 32 bits, and with 64
        assert greeted().feed(UP, b"BDAT " + length + b" LAST\r\n" + commands).checks == ["smtp-bdat"]
    driven = greeted().feed(UP, b"HELO c\r\n").feed(DOWN, OK)
    assert driven.feed(UP, part(commands, b" LAST")).checks == ["smtp-bdat"]


def test_ordinary_messages_in_parts_pass() -> None:
    story = [(DOWN, b"220 mail.h ESMTP\r\n"), (UP, b"EHLO c\r\n"), (DOWN, HELLO)]
    for refused in (b"550 spam\r\n", OK):
        story += [
            (UP, BEGIN + part(HALVES[0])),
            (DOWN, OK * 3),
            (UP, part(HALVES[1], b" LAST")),
            (DOWN, refused),
        ]
    story += [
        (UP, BEGIN + part(WHOLE) + part(b"", b" LAST")),
        (DOWN, b"250 ok\r\n" + b"550 who\r\n" + b"503 no\r\n" * 2),
    ]
    story += [(UP, b"RSET\r\n"), (DOWN, OK), (UP, BEGIN + b"DATA\r\n"), (DOWN, OK * 2 + b"354 go\r\n")]
    story += [(UP, data(WHOLE)), (DOWN, OK), (UP, b"QUIT\r\n"), (DOWN, b"221 bye\r\n")]
    driven = exchange(story)
    assert driven.findings == []
    assert driven.out == driven.sent


def local(hello: bytes = b"LHLO c\r\n") -> Driven:
    """Give a message to three recipients, of whom the server takes two."""
    driven = Driven().feed(DOWN, b"220 mail.h LMTP\r\n").feed(UP, hello).feed(DOWN, HELLO)
    driven.feed(UP, BEGIN + b"RCPT TO:<c@h>\r\nRCPT TO:<d@h>\r\n")
    return driven.feed(DOWN, OK + OK + b"550 nobody\r\n" + OK)


@pytest.mark.parametrize("parts", [False, True])
def test_takes_a_reply_for_each_recipient_of_lmtp(parts: bool) -> None:
    driven = local()
    for _ in range(2):
        if parts:
            driven.feed(UP, part(HALVES[0]) + part(HALVES[1], b" LAST") + b"NOOP\r\n").feed(DOWN, OK)
        else:
            driven.feed(UP, b"DATA\r\n").feed(DOWN, b"354 go\r\n").feed(UP, data(WHOLE) + b"NOOP\r\n")
        driven.feed(DOWN, b"250 taken\r\n").feed(DOWN, b"452 full\r\n").feed(DOWN, OK)
        assert driven.findings == []
        driven.feed(UP, BEGIN + b"RCPT TO:<c@h>\r\n").feed(DOWN, OK * 3)
    driven.feed(UP, b"RSET\r\nQUIT\r\n").feed(DOWN, OK + b"221 bye\r\n")
    assert driven.findings == []
    assert driven.out == driven.sent


@pytest.mark.parametrize("replies", [OK * 3, OK * 2 + b"354 go\r\n"])
def test_refuses_more_replies_than_lmtp_has(replies: bytes) -> None:
    driven = local().feed(UP, b"DATA\r\n").feed(DOWN, b"354 go\r\n").feed(UP, data(WHOLE)).feed(DOWN, replies)
    assert driven.checks == ["smtp-reply"]


def test_refuses_a_reply_for_each_recipient_where_no_lmtp_is_spoken() -> None:
    driven = local(b"EHLO c\r\n").feed(UP, b"DATA\r\n").feed(DOWN, b"354 go\r\n").feed(UP, data(WHOLE))
    assert driven.feed(DOWN, OK).findings == []
    assert driven.feed(DOWN, OK).checks == ["smtp-reply"]


def test_rules_see_each_recipient_with_its_sender() -> None:
    options = (
        'smtp.helo; content:"c"; smtp.mail_from; content:"<a@h>"; smtp.rcpt_to; content:"<c@h>"; bsize:5;'
    )
    told = ruleset(rule(options, "drop tcp any any -> any any"))
    story = [(DOWN, b"220 mail.h ESMTP\r\n"), (UP, b"EHLO c\r\n"), (DOWN, HELLO), (UP, BEGIN), (DOWN, OK * 2)]
    assert (
        checks(told, [*story, (UP, b"RCPT TO:<d@h>\r\nRSET\r\nMAIL FROM:<x@h>\r\nRCPT TO:<c@h>\r\n")]) == []
    )
    assert checks(told, [*story, (UP, b"RCPT TO:<c@h>\r\nRCPT TO:<y@h>\r\n")]) == ["suricata.1:1"]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"MAIL FROM:<evil@h>", "<evil@h>"), (b"mail from:  <evil@h> SIZE=100 BODY=8BITMIME", "<evil@h>"), (b"MAIL FROM:evil@h", "evil@h"), (b"MAIL FROM:<>", "<>"),
    ],
)  # fmt: skip
def test_addresses_keep_their_brackets_for_rules(line: bytes, told: str) -> None:
    rules = ruleset(
        rule(f'smtp.mail_from; content:"{told}"; startswith; endswith;', "drop tcp any any -> any any")
    )
    story = [(DOWN, b"220 mail.h ESMTP\r\n"), (UP, b"EHLO c\r\n"), (DOWN, HELLO), (UP, line + b"\r\n")]
    assert checks(rules, story) == ["suricata.1:1"]


def test_a_rule_that_names_recipients_twice_may_mean_two_of_a_message() -> None:
    both = 'smtp.rcpt_to; content:"<c@h>"; bsize:5; smtp.rcpt_to; content:"<y@h>"; bsize:5;'
    rules = ruleset(rule(both, "drop tcp any any -> any any"))
    story = [(DOWN, b"220 mail.h ESMTP\r\n"), (UP, b"EHLO c\r\n"), (DOWN, HELLO), (UP, BEGIN), (DOWN, OK * 2)]
    assert checks(rules, [*story, (UP, b"RCPT TO:<c@h>\r\nRCPT TO:<x@h>\r\n")]) == []
    for order in (b"cxy", b"yxc", b"cy"):
        asked = b"".join(b"RCPT TO:<%c@h>\r\n" % one for one in order)
        assert checks(rules, [*story, (UP, asked)]) == ["suricata.1:1"]
    again = b"RCPT TO:<c@h>\r\nRSET\r\nMAIL FROM:<a@h>\r\nRCPT TO:<y@h>\r\n"
    assert checks(rules, [*story, (UP, again)]) == []


def test_rules_about_many_recipients_cost_little() -> None:
    told = ruleset(rule('smtp.rcpt_to; content:"<z@h>"; bsize:5;', "drop tcp any any -> any any"))
    story = [(DOWN, b"220 mail.h ESMTP\r\n"), (UP, b"EHLO c\r\n"), (DOWN, HELLO)]
    for _ in range(5):
        story += [(UP, b"MAIL FROM:<a@h>\r\n" + b"RCPT TO:<b@h>\r\n" * 1000 + b"RSET\r\n"), (DOWN, OK * 1002)]
    began = time.perf_counter()
    assert checks(told, story) == []
    assert time.perf_counter() - began < 3


@pytest.mark.parametrize(
    "farewell", [b"451 4.7.0 Timeout waiting for client input\r\n", b"421 4.4.2 h timeout\r\n"]
)
def test_a_server_may_say_that_it_waits_no_longer(farewell: bytes) -> None:
    story = [(DOWN, b"220 mail.h ESMTP\r\n"), (UP, b"EHLO c\r\n"), (DOWN, HELLO), (DOWN, farewell)]
    driven = exchange(story)
    assert driven.findings == []
    assert driven.out == driven.sent


@pytest.mark.parametrize("more", [(DOWN, b"250 ok\r\n"), (DOWN, b"451 again\r\n")])
@pytest.mark.parametrize("asks", [b"", b"NOOP\r\n"])
def test_rejects_replies_behind_one_that_nobody_asked_for(more: tuple[Direction, bytes], asks: bytes) -> None:
    """A client may count it as the answer to its next command: from then on both ends would mean different ones."""
    story = [(DOWN, b"220 mail.h ESMTP\r\n"), (UP, b"EHLO c\r\n"), (DOWN, HELLO), (DOWN, b"451 timeout\r\n")]
    assert exchange([*story, (UP, asks), more]).checks == ["smtp-reply"]
