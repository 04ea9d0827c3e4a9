"""Rules on whole conversations: what is told, what is cut, and that no cut of the bytes changes it."""

import io
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether

from filters.inspection.offline.capture import Capture
from filters.inspection.offline.twin import Twin
from filters.inspection.spec import InspectionSpec, OnError
from filters.inspection.toolbox import Toolbox
from filters.reason import DropReason
from tests.filters.inspection.drive import DOWN, UP, answer, chunked
from tests.filters.inspection.suricata.drive import SPEC, Said, checks, cut_up, follow, rule, ruleset
from tests.filters.inspection.test_offline import connection, pcap
from tests.filters.inspection.test_protocols import client_hello, dns_tcp, mail, smtp

ALERT = "alert tcp any any -> any any"
REQUEST = (
    b"POST http://Shop.example:8080//a/./b/../c%41.php?x=%2e HTTP/1.1\r\nHost: Shop.example:8080\r\nUser-Agent: bot/1.0\r\n"
    b"Cookie: id=7\r\nAccept: */*\r\nX-One:  two \r\nContent-Type: text/x\r\nContent-Length: 11\r\n\r\nname=secret"
)
ANSWER = answer(
    b"hello <b>world</b>",
    b"Server: nginx",
    b"Set-Cookie: a=1",
    b"Set-Cookie: b=2",
    status=b"HTTP/1.1 404 Not Found",
)
HTTP: list[Said] = [(UP, REQUEST), (DOWN, ANSWER)]
DNS_QUERY = dns_tcp(b"\0\1\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1")


@pytest.mark.parametrize(
    ("buffer", "data"),
    [
        ("http.method", "POST"), ("http.uri", "/a/cA.php?x=."), ("http.uri.raw", "http|3a|//Shop.example|3a|8080//a/./b/../c%41.php?x=%2e"),
        ("http.host", "shop.example"), ("http.host.raw", "shop.example"), ("http.user_agent", "bot/1.0"), ("http.cookie", "id=7"), ("http.accept", "*/*"),
        ("http.content_type", "text/x"), ("http.content_len", "11"), ("http.protocol", "HTTP/1.1"), ("http.request_body", "name=secret"), ("file.data", "name=secret"),
        ("http.request_header", "X-One|3a| two"), ("http.stat_code", "404"), ("http.stat_msg", "Not Found"), ("http.server", "nginx"), ("http.cookie", "a=1, b=2"),
        ("http.response_body", "hello <b>world</b>"), ("file.data", "hello <b>world</b>"), ("http.response_line", "HTTP/1.1 404 Not Found"),
        ("http.header_names", "|0d 0a|Server|0d 0a|Set-Cookie|0d 0a|Set-Cookie|0d 0a|Content-Length|0d 0a 0d 0a|"),
        ("http.header", "Server|3a| nginx|0d 0a|Content-Length|3a| 18|0d 0a|"),
        ("http.start", "HTTP/1.1 404 Not Found|0d 0a|Server|3a| nginx|0d 0a|Set-Cookie|3a| a=1|0d 0a|Set-Cookie|3a| b=2|0d 0a|Content-Length|3a| 18|0d 0a 0d 0a|"),
    ],
)  # fmt: skip
def test_each_buffer_holds_exactly_this(buffer: str, data: str) -> None:
    found = ruleset(
        rule(f'{buffer}; content:"{data}"; startswith; endswith;', "alert http any any -> any any")
    )
    assert set(checks(found, HTTP)) == {"suricata.1:1"}


@pytest.mark.parametrize(
    ("target", "field", "host", "raw"),
    [
        ("/", b"Host: Good.example:81\r\n", "good.example", "Good.example|3a|81"), ("/", b"Host: good.example.\r\n", "good.example", "good.example."),
        ("http://Evil.example:80/", b"Host: good.example\r\n", "evil.example", "evil.example"), ("http://u:p@evil.example/@x", b"Host: h\r\n", "evil.example", "evil.example"),
        ("http://%65vil.example?@x", b"Host: h\r\n", "evil.example", "evil.example"), ("http://[::1]:80/", b"Host: h\r\n", "[|3a 3a|1]", "[|3a 3a|1]"),
        ("http:///x", b"Host: good.example\r\n", "good.example", "good.example"), ("/http://evil.example/", b"Host: good.example\r\n", "good.example", "good.example"),
    ],
)  # fmt: skip
def test_finds_the_host_that_the_request_is_for(target: str, field: bytes, host: str, raw: str) -> None:
    said = [(UP, b"GET " + target.encode() + b" HTTP/1.1\r\n" + field + b"\r\n")]
    for buffer, data in (("http.host", host), ("http.host.raw", raw)):
        assert checks(ruleset(rule(f'{buffer}; content:"{data}"; startswith; endswith;')), said), buffer


def test_finds_a_host_in_a_target_without_a_host_field() -> None:
    rules = ruleset(rule('http.host; content:"evil.example"; bsize:12;'))
    assert checks(rules, [(UP, b"GET http://evil.example/ HTTP/1.0\r\n\r\n")])
    assert checks(rules, [(UP, b"CONNECT evil.example:443 HTTP/1.1\r\nHost: h\r\n\r\n")])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('tls.sni; content:"db.example"; startswith; endswith;', [(UP, client_hello())]), ('tls.alpn; content:"h2"; bsize:2;', [(UP, client_hello())]),
        ('dns.query; dotprefix; content:".www.example"; startswith; endswith;', [(UP, DNS_QUERY)]),
        ('dns.query; content:"www.example"; bsize:11;', [(UP, DNS_QUERY)]), ('ssh.proto; content:"2.0"; bsize:3; ssh.software; content:"x_1"; bsize:3;', [(UP, b"SSH-2.0-x_1 c\r\n")]),
        ('ssh.software; content:"libssh-0.7.2"; bsize:12;', [(UP, b"SSH-2.0-libssh-0.7.2\r\n")]),
        ('smtp.helo; content:"c"; bsize:1; smtp.mail_from; content:"<a@h>"; bsize:5; smtp.rcpt_to; content:"<b@h>"; bsize:5;', smtp(mail(b"x"))),
    ],
)  # fmt: skip
def test_buffers_of_other_protocols(options: str, said: list[Said]) -> None:
    assert checks(ruleset(rule(options, ALERT)), said) == ["suricata.1:1"]


@pytest.mark.parametrize(
    "between", ['content:!"safe";', 'pcre:!"/safe/";', "bsize:>5;", "urilen:>5;", "isdataat:9;"]
)
@pytest.mark.parametrize(
    ("uri", "found"), [(b"/aaaaaaaaaaaaaaaaaaaa/cmd?exec", 1), (b"/exec/aaaaaaaaaaaa/cmd", 0)]
)
def test_finds_what_stands_behind_a_content_with_a_test_between(between: str, uri: bytes, found: int) -> None:
    rules = ruleset(rule(f'http.uri; content:"/cmd"; {between} content:"exec"; distance:0; within:10;'))
    assert len(checks(rules, [(UP, b"GET " + uri + b" HTTP/1.1\r\nHost: h\r\n\r\n")])) == found


def dns_asking(*names: bytes) -> bytes:
    asked = b"".join(bytes([len(one)]) + one + b"\7example\0\0\1\0\1" for one in names)
    return dns_tcp(b"\0\1\1\0" + len(names).to_bytes(2, "big") + b"\0\0\0\0\0\0" + asked)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ('http.request_header; content:"Host: Shop"; startswith; {}http.request_header; content:"X-One: two"; bsize:10;', [(UP, REQUEST)]),
        ('http.response_header; content:"Server: nginx"; {}http.response_header; content:"Set-Cookie: b"; {}http.stat_code; content:"404";', HTTP),
        ('tls.alpn; content:"h2"; bsize:2; {}tls.alpn; content:"http/1.1"; bsize:8;', [(UP, client_hello())]),
        ('dns.query; content:"one.example"; bsize:11; {}dns.query; content:"three.example"; bsize:13;', [(UP, DNS_QUERY + dns_asking(b"one", b"two", b"three"))]),
        ('dns.query; dotprefix; content:".one.example"; endswith; {}dns.query; dotprefix; content:".two.example"; endswith;', [(UP, DNS_QUERY + dns_asking(b"one", b"two"))]),
    ],
)  # fmt: skip
def test_a_buffer_named_twice_may_mean_two_instances(options: str, said: list[Said]) -> None:
    for places in ([], range(1, sum(len(data) for _, data in said))):
        assert set(checks(ruleset(rule(options.replace("{}", ""), ALERT)), cut_up(said, places))) == {
            "suricata.1:1"
        }
    assert checks(ruleset(rule(options.replace("{}", 'pcre:"/no/"; '), ALERT)), said) == []


def test_what_one_naming_says_must_be_in_one_instance() -> None:
    for options in (
        'http.request_header; content:"Host"; content:"X-One";',
        'dns.query; content:"one"; content:"two";',
    ):
        said = [(UP, DNS_QUERY + dns_asking(b"one", b"two"))] if "dns" in options else [(UP, REQUEST)]
        assert checks(ruleset(rule(options, ALERT)), said) == []


@pytest.mark.parametrize(
    ("target", "options", "found"),
    [
        ("/admin/.", 'content:"/admin/";', 1), ("/admin/x/..", 'content:"/admin/"; endswith;', 1), ("/a\\..\\etc\\passwd", 'content:"/etc/passwd"; startswith;', 1),
        ("/a%5cb", 'content:"a|5c|b";', 1), ("/a%5cb", 'content:"a/b";', 1), ("/%u0061dmin", 'content:"/admin";', 1), ("/%u0061dmin", 'content:"%u0061";', 1),
        ("/x%5cok", 'content:"/x"; content:!"/ok";', 0), ("/x%5cok", 'content:"/x"; content:!"|5c|ok";', 0), ("/x%5cok", 'content:"/x/"; content:!"no";', 1),
        ("/x%5cok", 'content:"/x/"; pcre:!"/no/";', 1), ("/x%5cok", 'content:"/x"; pcre:!"/x.ok/";', 0), ("/x%5cok", 'content:!"a";', 1), ("/x%5cok", "bsize:5;", 1),
        ("/x%5cok", 'dotprefix; content:"./x/ok"; content:!"x|5c|"; startswith;', 1),
    ],
)  # fmt: skip
def test_a_target_with_two_readings_is_found_by_either_and_denied_by_either(
    target: str, options: str, found: int
) -> None:
    rules = ruleset(rule(f"http.uri; {options}", ALERT))
    assert len(checks(rules, [(UP, f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())])) == found


def test_an_alert_is_told_and_does_not_cut() -> None:
    driven = follow(ruleset(rule('http.uri; content:".php";', "alert http any any -> any any")), HTTP)
    (found,) = driven.findings
    assert (found.check, found.detail, found.reason, found.cuts) == (
        "suricata.1:1",
        "m1",
        DropReason.MALWARE,
        False,
    )
    assert driven.cut is None
    assert [bytes(one) for one in driven.out] == [REQUEST, ANSWER]


DROPS: dict[str, tuple[str, list[Said], bytes]] = {
    "stream": ('content:"needle"; nocase;', [(UP, b"\0\1 some Needle and more")], b"Needle"),
    "far apart": ('content:"one"; content:"two"; distance:3;', [(UP, b"\0\1 one ...... two more")], b"two"),
    "uri": (
        'http.uri; content:"/evil"; http.method; content:"GET";',
        [(UP, b"GET /evil HTTP/1.1\r\nHost: h\r\n\r\n")],
        b"\r\n\r\n",
    ),
    "body": ('http.response_body; content:"world</b>";', HTTP, b"world</b>"),
    "body and head": (
        'http.stat_code; content:"404"; file.data; content:"world"; content:"hello";',
        HTTP,
        b"world",
    ),
    "stream and head": ('content:"name=secret"; http.method; content:"POST";', HTTP, b"secret"),
    "end of a body": (
        'http.request_body; content:"name="; content:!"x"; pcre:"/^name=[a-z]+$/";',
        HTTP,
        b"secret",
    ),
    "expression": ('content:"<b>"; pcre:"/<b>w[a-z]{4}/";', HTTP, b"<b>world"),
}


@pytest.mark.parametrize("name", DROPS)
def test_the_byte_that_completes_a_dropping_rule_never_leaves_at_any_split(name: str) -> None:
    options, said, last = DROPS[name]
    rules = ruleset(rule(options))
    *before, _ = said
    way = next(way for way, data in said if last in data)
    said = said[: next(at for at, (_, data) in enumerate(said) if last in data) + 1]
    *before, (way, data) = said
    place = data.index(last) + len(last)
    for split in range(1, len(data)):
        driven = follow(rules, [*before, (way, data[:split]), (way, data[split:])])
        assert driven.cut is not None, split
        assert driven.cut.check == "suricata.1:1"
        assert len(driven.out[way]) < place
    assert follow(rules, [*before, *((way, data[at : at + 1]) for at in range(len(data)))]).cut is not None


MANY = ruleset(
    *[
        rule(options, ALERT, sid=number)
        for number, options in enumerate(
            [
                'content:"POST"; depth:4; content:"secret"; distance:20;', 'content:"404"; content:"<b>"; within:200;', 'http.uri; content:"/a"; startswith; pcre:"/c[A-Z]\\.php/R";',
                'file.data; content:"hello"; content:"world"; distance:1; within:12;', 'http.response_body; content:"hello"; content:!"moon";', 'file.data; content:"</b>"; endswith;',
                'content:"bot"; http.method; content:"POST";', 'http.referer; absent;', 'http.uri; urilen:>500;', 'content:"nginx"; pcre:"/404.{1,9}Found/";', 'flow:to_client; content:"world";',
                'http.cookie; content:"="; http.header_names; content:"Server"; file.data; content:"b";',
            ],
            1,
        )
    ]
)  # fmt: skip


@given(st.lists(st.integers(1, len(REQUEST) + len(ANSWER)), max_size=12))
@settings(max_examples=150, deadline=None)
def test_what_is_told_does_not_depend_on_segments(places: list[int]) -> None:
    assert sorted(checks(MANY, cut_up(HTTP, places))) == sorted(checks(MANY, HTTP))
    assert len(set(checks(MANY, HTTP))) == 11


def test_codings_and_chunks_are_undone_before_rules_look() -> None:
    packed = zlib.compressobj(wbits=31)
    body = packed.compress(b"hello world") + packed.flush()
    rules = ruleset(rule('http.response_body; content:"hello world";'))
    get = (UP, b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert checks(rules, [get, (DOWN, answer(body, b"Content-Encoding: gzip"))]) == ["suricata.1:1"]
    coded = answer(chunked(b"hello world", 2), b"Transfer-Encoding: chunked", length=False)
    assert checks(rules, [get, (DOWN, coded)]) == ["suricata.1:1"]


def test_what_a_rule_says_of_one_message_must_be_in_one_message() -> None:
    rules = ruleset(rule('http.uri; content:"/a"; http.method; content:"POST";', ALERT))
    get, post = (b"%b HTTP/1.1\r\nHost: h\r\n\r\n" % one for one in (b"GET /a", b"POST /b"))
    assert checks(rules, [(UP, get + post)]) == []
    assert checks(rules, [(UP, post.replace(b"/b", b"/a") * 2)]) == ["suricata.1:1"] * 2
    bodies = ruleset(rule('http.uri; content:"/a"; http.request_body; content:"x";', ALERT))
    put = b"PUT %b HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\n%b"
    assert checks(bodies, [(UP, put % (b"/a", b"y") + put % (b"/b", b"x"))]) == []
    assert checks(bodies, [(UP, put % (b"/a", b"x"))]) == ["suricata.1:1"]


@pytest.mark.parametrize(
    ("header", "extra", "count"),
    [
        ("alert http any any -> any any", "", 1), ("alert tls any any -> any any", "", 0), ("alert tcp any any -> any any", "app-layer-protocol:http;", 1),
        ("alert tcp any any -> any any", "app-layer-protocol:!http;", 0), ("alert tcp any any -> any any", "app-layer-protocol:!tls;", 1), ("alert tcp any any -> any 80", "", 1),
        ("alert tcp any any -> any !80", "", 0), ("alert tcp $NET any -> any any", "", 0), ("alert ip any any <> 10.0.0.2 any", "", 1),
        ("alert tcp any any -> any any", "flow:to_client;", 0),
    ],
)  # fmt: skip
def test_the_header_and_the_protocol_count(header: str, extra: str, count: int) -> None:
    rules = ruleset(rule(f'{extra} content:"name=secret";', header), NET="[10.0.1.0/24,!10.0.0.0/24]")
    for said in (HTTP, [(way, data[at : at + 1]) for way, data in HTTP for at in range(len(data))]):
        assert len(checks(rules, said)) == count


BITS = ruleset(
    rule('http.method; content:"POST"; flowbits:set,asked; flowbits:noalert;', ALERT, sid=1),
    rule('http.stat_code; content:"404"; flowbits:isset,asked; flowbits:set,both;', ALERT, sid=2),
    rule('content:"name="; flowbits:isset,both;', ALERT, sid=3),
    rule('content:"nginx"; flowbits:isset,neither|both;', sid=4),
    rule('content:"nowhere"; flowbits:set,neither;', sid=5),
)


@given(st.lists(st.integers(1, len(REQUEST) + len(ANSWER)), max_size=12))
@settings(max_examples=50, deadline=None)
def test_bits_join_rules_of_one_flow_in_any_order_and_over_any_split(places: list[int]) -> None:
    driven = follow(BITS, cut_up(HTTP, places))
    assert sorted(driven.checks) == ["suricata.1:2", "suricata.1:3", "suricata.1:4"]
    assert driven.cut is not None
    assert checks(BITS, [(UP, REQUEST.replace(b"POST", b"PUTT")), (DOWN, ANSWER)]) == []


def test_too_much_work_for_one_rule_ends_the_flow() -> None:
    driven = follow(
        ruleset(rule('http.uri; content:"a"; pcre:"/^b/R";', ALERT)),
        [(UP, b"GET /" + b"a" * 2000 + b"xb HTTP/1.1\r\nHost: h\r\n\r\n")],
    )
    assert driven.cut is not None
    assert (driven.cut.check, driven.cut.reason) == ("rule_places", DropReason.RESOURCE_LIMIT)


def test_a_beginning_that_pauses_is_judged_as_other_bytes() -> None:
    driven = follow(
        ruleset(rule('content:"GE"; app-layer-protocol:!http;', ALERT)), [(UP, b"GE")], ends=False
    )
    assert driven.checks == []
    assert driven.pause(UP).checks == ["suricata.1:1"]


HTTP_DROP = "drop http any any -> any any"
EVIL = b"POST /evil HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\nbody"


@pytest.mark.parametrize(
    "options", ['http.uri; content:"/evil";', 'content:"/evil";', 'http.request_body; content:"body";']
)
def test_finds_what_stands_before_a_refusal_that_the_rule_lets_pass(options: str) -> None:
    lenient = InspectionSpec(frozenset({"rules"}), on_error=OnError.PASS)
    rules, data = ruleset(rule(options, HTTP_DROP)), EVIL + b"\0\r\n\r\n"
    for split in range(1, len(data) + 1):
        driven = follow(rules, [(UP, data[:split]), (UP, data[split:])], spec=lenient)
        assert driven.cut is not None, split
        assert driven.cut.check == "suricata.1:1"
        assert EVIL not in driven.out[UP]


UPGRADE: list[Said] = [
    (UP, b"GET /c HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    (DOWN, b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nX-C: evil\r\n\r\n"),
]


@pytest.mark.parametrize(
    "options",
    ['http.stat_code; content:"101";', 'http.response_header; content:"X-C|3a| evil";', 'content:"X-C|3a| evil";'],
)  # fmt: skip
def test_finds_what_an_answer_says_that_changes_the_protocol(options: str) -> None:
    rules = ruleset(rule(options, HTTP_DROP))
    for places in ([], range(1, sum(len(data) for _, data in UPGRADE))):
        driven = follow(rules, cut_up(UPGRADE, places))
        assert driven.checks == ["suricata.1:1"]
        assert b"evil\r\n\r\n" not in driven.out[DOWN]
    whole = follow(rules, UPGRADE)
    assert whole.findings[0].protocol == ("websocket" if options.startswith("content") else "http")


def test_finds_a_sender_whose_command_is_answered_together_with_starttls() -> None:
    rules = ruleset(rule('smtp.mail_from; content:"evil";', "drop smtp any any -> any any"))
    said: list[Said] = [
        (DOWN, b"220 h ESMTP\r\n"),
        (UP, b"EHLO a\r\nMAIL FROM:<evil@h>\r\nSTARTTLS\r\n"),
        (DOWN, b"250 h\r\n250 ok\r\n220 go\r\n"),
    ]
    for places in ([], range(1, 100)):
        assert checks(rules, cut_up(said, places)) == ["suricata.1:1"]


@pytest.mark.parametrize(
    ("protocol", "word", "data"),
    [("smtp", "EHLO evilbot", b"EHLO evilbot|\r\n"), ("http", "evil.example", b"CONNECT evil.example:443| HTTP/1.1\r\nHost: h\r\n\r\n")],
)  # fmt: skip
def test_finds_what_came_before_a_pause_as_soon_as_the_protocol_shows(
    protocol: str, word: str, data: bytes
) -> None:
    first, second = data.split(b"|")
    for named, wanted in ((protocol, ["suricata.1:1"]), ("tls", [])):
        rules = ruleset(rule(f'content:"{word}";', f"drop {named} any any -> any any"))
        driven = follow(rules, [(UP, first)], ends=False)
        assert driven.pause(UP).checks == []
        assert driven.feed(UP, second).checks == wanted


def test_rules_look_at_captures_and_at_dns_over_udp() -> None:
    asks = [
        Ether() / IP(src="10.0.0.2", dst="10.0.0.3") / UDP(sport=4000, dport=53) / DNS(qd=DNSQR(qname=name))
        for name in ("evil.example", "fine.example", "worse.example", "evil.example")
    ]
    toolbox = Toolbox(
        rules=[
            (
                "mine.rules",
                rule('dns.query; content:"evil."; startswith;', "alert dns any any -> any 53", sid=1),
            ),
            ("udp.rules", rule('dns.query; content:"evil";', "alert tcp any any -> any any", sid=2)),
            ("http.rules", rule('http.method; content:"GET";', "alert http any any -> any any", sid=3)),
            (
                "raw.rules",
                rule(
                    'content:"|05|worse|07|example"; offset:12; depth:14;',
                    "drop dns any any -> any any",
                    sid=4,
                ),
            ),
        ]
    )
    events = list(Twin(toolbox.judge(SPEC)).events(Capture(io.BytesIO(pcap([*asks, *connection()])))))
    # the alert cuts nothing; after the drop these datagrams are not looked at any more
    assert [one.finding.check for one in events] == ["suricata.1:1", "suricata.1:4", "suricata.1:3"]
    assert [one.frame for one in events] == [1, 3, 7]
    assert toolbox.coverage.loaded == 4


def test_all_that_is_said_of_a_body_has_to_be_in_it() -> None:
    both = 'file.data; content:"hello"; http.response_body; content:"{}";'
    assert checks(ruleset(rule(both.format("world"), ALERT)), HTTP) == ["suricata.1:1"]
    assert checks(ruleset(rule(both.format("moon"), ALERT)), HTTP) == []
