"""What a rule means, and what stops it."""

import pytest

from filters.inspection.finding import Direction
from filters.inspection.suricata.model import Action, Content
from filters.reason import DropReason
from tests.filters.inspection.suricata.drive import CLIENT, SERVER, coverage, rule, ruleset, stopped_by

UP, DOWN = Direction.TO_SERVER, Direction.TO_CLIENT


def test_contents_and_their_modifiers() -> None:
    (one,) = ruleset(
        rule('content:"AbC"; nocase; offset:1; depth:9; content:"x"; distance:-2; within:5; fast_pattern;')
    ).rules
    assert one.raw is not None
    assert one.raw.items == (
        Content(b"abc", caseless=True, low=1, span=9),
        Content(b"x", relative=True, low=-2, span=5),
    )
    assert one.preferred == one.raw.items[1]


def test_buffers_in_the_newer_and_the_older_way_are_the_same() -> None:
    new, old = ruleset(
        rule(
            'http.uri; content:"/a"; startswith; content:"b"; distance:0; http.user_agent; content:"x"; endswith;',
            sid=1,
        ),
        rule(
            'content:"/a"; http_uri; startswith; content:"b"; distance:0; http_uri; content:"x"; http_user_agent; endswith;',
            sid=2,
        ),
    ).rules
    assert new.groups == old.groups
    assert [group.buffer for group in new.groups] == ["http.uri", "http.user_agent"]
    assert new.protocols == {"http"}
    assert new.directions == {UP}


@pytest.mark.parametrize(
    ("options", "buffers"),
    [
        ('content:"a"; http_uri; isdataat:3,relative;', ["http.uri"]),
        ('content:"GET"; content:"a"; http_uri; byte_test:2,>,5,0,relative,string,dec;', ["payload", "http.uri"]),
        ('content:"a"; http_uri; urilen:5,raw; isdataat:3,relative;', ["http.uri", "http.uri.raw"]),
        ('content:"a"; http_uri; content:"b"; isdataat:3,relative;', ["http.uri", "payload"]),
        ('pcre:"/a/U"; isdataat:3,relative; isdataat:!9,relative;', ["http.uri"]),
    ],
)  # fmt: skip
def test_finds_the_buffer_of_a_test_behind_the_older_way(options: str, buffers: list[str]) -> None:
    (one,) = ruleset(rule(options)).rules
    assert [group.buffer for group in one.groups] == buffers


@pytest.mark.parametrize(
    ("letter", "buffer"),
    [("U", "http.uri"), ("H", "http.header"), ("P", "http.request_body"), ("V", "http.user_agent"), ("C", "http.cookie"), ("Q", "http.response_body")],
)  # fmt: skip
def test_letters_of_expressions_name_buffers(letter: str, buffer: str) -> None:
    (one,) = ruleset(rule(f'pcre:"/a/{letter}i";')).rules
    assert [group.buffer for group in one.groups] == [buffer]


@pytest.mark.parametrize(
    ("header", "extra", "ways"),
    [
        ("alert tcp any any -> any 80", "", [UP]), ("alert tcp any 80 -> any any", "", [DOWN]), ("alert tcp any any <> any 80", "", [UP, DOWN]),
        ("alert tcp any any -> any 81", "", []), ("alert tcp 10.0.0.2 any -> any any", "", [UP]), ("alert tcp any any -> 10.0.0.2 any", "", [DOWN]),
        ("alert tcp any any -> any any", "flow:established,to_server;", [UP]), ("alert tcp any any -> any any", "flow:from_server;", [DOWN]),
        ("alert tcp ![10.0.0.0/24] any -> any any", "", []),
    ],
)  # fmt: skip
def test_a_header_says_which_direction_of_which_flow(header: str, extra: str, ways: list[Direction]) -> None:
    (one,) = ruleset(rule(f'{extra} content:"x";', header)).rules
    assert [way for way in Direction if one.speaks_of(way, CLIENT, SERVER)] == ways


def test_actions_and_classes() -> None:
    found = ruleset(
        'alert tcp any any -> any any (content:"x"; sid:1;)',
        'reject tcp any any -> any any (content:"x"; classtype:trojan-activity; sid:2;)',
        'drop tcp any any -> any any (content:"x"; classtype:credential-theft; gid:3; sid:3;)',
    ).rules
    assert [one.action for one in found] == [Action.ALERT, Action.DROP, Action.DROP]
    assert [one.reason for one in found] == [DropReason.MALWARE, DropReason.MALWARE, DropReason.DATA_LEAK]
    assert [one.check for one in found] == ["suricata.1:1", "suricata.1:2", "suricata.3:3"]


@pytest.mark.parametrize(
    ("options", "keyword"),
    [
        ("", "no content"), ('content:"x"; lua:a.lua;', "lua"), ('content:"x"; flowbits:isset,a;', "flowbits"), ('content:"x"; flowbits:noalert;', "noalert"), ('content:"x"; flowbits:isnotset,a;', "flowbits"), ('content:"x"; flowbits:unset,a;', "flowbits"),
        ('content:"x"; threshold: type both, track by_src, count 5, seconds 60;', "threshold"), ('content:"x"; dsize:>5;', "dsize"),
        ('content:"x"; detection_filter:track by_src, count 5, seconds 60;', "detection_filter"), ('content:!"x";', "content"),
        ('content:"a"; content:!"x";', "content"), ('content:"x"; endswith;', "endswith"), ('content:"x"; pcre:"/x$/";', "pcre"), ('pcre:"/x/";', "pcre"),
        ('content:"x"; pcre:"/x/"; content:"y"; distance:0;', "pcre"), ('content:"x"; content:"y"; distance:-3;', "distance"),
        ('content:"x"; content:"y"; within:9000;', "within"), ('content:"x"; isdataat:!1,relative;', "isdataat"), ('content:"x"; isdataat:5;', "isdataat"),
        ('content:"x"; byte_jump:1,0;', "byte_jump"), ('content:"x"; bsize:3;', "bsize"), ('http.uri; content:"x"; http.stat_code; content:"200";', "http.stat_code"),
        ('flow:to_client; http.uri; content:"x";', "http.uri"), ('http.uri; content:"x"; tls.sni; content:"y";', "tls.sni"),
        ('content:"x"; flow:no_stream;', "flow"), ('content:"x"; flow:to_server,to_client;', "flow"), ('content:"x"; offset:a;', "offset"),
        ('content:"x"; depth:5; content:"y"; offset:1; within:5;', "within"), ('http.uri; pcre:"/(?=a)b/";', "pcre"), ('content:"x"; app-layer-protocol:smb;', "app-layer-protocol"), ('http.uri; content:"x"; app-layer-protocol:!http;', "app-layer-protocol"),
        ('file.data; absent;', "absent"), ('http.referer; absent:or_else; content:"x";', "absent"), ('http.uri; to_lowercase; content:"x";', "to_lowercase"),
        ('http.uri; byte_test:4,>,1,0,dce; content:"x";', "byte_test"), ('content:"x"; noalert;', "noalert"),
    ],
)  # fmt: skip
def test_names_the_keyword_that_stops_a_rule(options: str, keyword: str) -> None:
    assert stopped_by(options) == keyword


@pytest.mark.parametrize(
    ("header", "keyword"),
    [
        ("pass tcp any any -> any any", "pass"), ("alert udp any any -> any any", "protocol udp"), ("alert smb any any -> any any", "protocol smb"),
        ("alert http any any => any any", "=>"), ("alert tcp-pkt any any -> any any", "protocol tcp-pkt"),
    ],
)  # fmt: skip
def test_names_what_stops_a_header(header: str, keyword: str) -> None:
    assert stopped_by('content:"x";', header) == keyword


@pytest.mark.parametrize(
    "options",
    [
        'content:"x"; flowbits:set,a;', 'content:"x"; threshold: type limit, track by_src, count 1, seconds 60;', 'content:"x"; flow:established,only_stream;',
        'content:"x"; rawbytes; metadata:a b, c d; reference:url,x; priority:1; target:src_ip;', 'http.referer; absent;', 'http.uri; urilen:5<>9;',
        'http.uri; content:!"x"; content:"y"; endswith; isdataat:!1,relative; bsize:<9;', 'file.data; content:!"x"; pcre:"/y$/";', 'tls_sni; content:"x";',
        'content:"x"; app-layer-protocol:!http;', 'dns_query; content:"x"; nocase; fast_pattern:only;',
    ],
)  # fmt: skip
def test_takes(options: str) -> None:
    assert stopped_by(options) == ""


def named(options: str) -> list[tuple[str, int]]:
    (one,) = ruleset(rule(options, "alert ip any any -> any any")).rules
    return [(group.buffer, len(group.items)) for group in one.groups]


@pytest.mark.parametrize(
    "buffer", ["http.request_header", "http.response_header", "dns.query", "tls.alpn", "smtp.rcpt_to"]
)
def test_each_naming_of_a_buffer_with_instances_is_a_part_of_its_own(buffer: str) -> None:
    said = f'{buffer}; content:"a"; content:"b"; distance:0; {buffer}; content:"c"; bsize:5; {buffer};'
    assert named(said) == [(buffer, 2), (buffer, 2)]
    dotted = f'{buffer}; dotprefix; content:"a"; {buffer}; dotprefix; content:"c"; {buffer}; content:"x";'
    assert named(dotted) == [(f"{buffer}.dotprefix", 1), (f"{buffer}.dotprefix", 1), (buffer, 1)]


def test_namings_of_a_buffer_without_instances_are_one_part() -> None:
    assert named('http.uri; content:"a"; http.method; content:"G"; http.uri; content:"b"; distance:0;') == [
        ("http.uri", 2),
        ("http.method", 1),
    ]
    assert named('http.request_header; content:"a"; pcre:"/x/H"; http.request_header; content:"b"; pcre:"/y/H";') == [
        ("http.request_header", 1), ("http.header", 2), ("http.request_header", 1),
    ]  # fmt: skip
    assert named('file.data; content:"a"; file.data; content:"b"; distance:0;') == [("file.data", 2)]


@pytest.mark.parametrize(
    ("header", "options", "wanted"),
    [
        ("ip", 'content:"x";', ["ip"]), ("ipv4", 'content:"x";', ["ipv4"]), ("ip", 'content:"x"; depth:4;', ["ip", "depth"]), ("ip", 'http.uri; content:"x";', []),
        ("ip", 'content:"x"; http.uri; content:"x";', []), ("ip", 'dns.query; content:"x";', []), ("tcp", 'content:"x";', []), ("tcp", 'content:"x"; depth:4;', ["depth"]),
        ("tcp", 'content:"x"; startswith;', ["depth"]), ("tcp", 'content:"x"; offset:4;', ["offset"]), ("tcp", 'content:"x"; content:"y"; within:4;', []),
        ("tcp-stream", 'content:"x"; depth:4;', []), ("tcp", 'flow:only_stream; content:"x"; depth:4;', []), ("http", 'content:"x"; depth:4;', []),
        ("tcp", 'file.data; content:"x";', ["file.data"]), ("http", 'file.data; content:"x";', []), ("tcp", 'file.data; content:"x"; http.stat_code; content:"200";', []),
        ("tcp", 'app-layer-protocol:http; file.data; content:"x";', []), ("tcp", 'http.response_body; content:"x";', []), ("tcp", 'http.uri; content:"x"; startswith;', []),
    ],
)  # fmt: skip
def test_names_what_is_done_in_part_only(header: str, options: str, wanted: list[str]) -> None:
    found = coverage(rule(options, f"alert {header} any any -> any any"))
    assert (found.loaded, found.is_complete) == (1, True)
    assert [one.keyword for one in found.in_part] == wanted
    assert all(one.sid == "1" and one.detail for one in found.in_part)


def test_what_is_left_out_is_not_done_in_part() -> None:
    found = coverage(
        rule('content:"x"; depth:4; flowbits:isset,a;', sid=1), rule('content:"y"; depth:4;', sid=2)
    )
    assert (found.loaded, [one.sid for one in found.in_part]) == (1, ["2"])


@pytest.mark.parametrize(
    ("options", "works"),
    [
        ('http.uri; content:"abcdefgh"; bsize:2;', False), ('http.uri; content:"abc"; offset:5; bsize:<8;', False), ('http.uri; bsize:5<>6;', False), ('http.uri; bsize:<0;', False),
        ('content:"/abc"; http_uri; urilen:3;', False), ('http.uri; content:"abcdefgh"; bsize:8;', True), ('http.uri; content:"abcdefgh"; bsize:!2;', True),
        ('http.uri; content:"abc"; offset:5; bsize:<9;', True), ('http.uri; content:!"abcdefgh"; bsize:2;', True), ('http.uri; content:"abc"; http.method; bsize:2;', True),
    ],
)  # fmt: skip
def test_a_rule_that_can_never_match_is_an_error(options: str, works: bool) -> None:
    found = coverage(rule(options))
    assert (found.loaded, len(found.broken), found.unsupported) == (works, not works, [])
    assert works or "can never match" in found.broken[0].detail


@pytest.mark.parametrize("place", ["65537", "100000", "9" * 30])
def test_a_place_too_far_to_look_at_is_unsupported(place: str) -> None:
    assert stopped_by(f"http.uri; isdataat:{place};") == "isdataat"
    assert stopped_by("http.uri; isdataat:65536;") == ""


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('alert tcp any any -> any any (content:"x";)', "expected a sid"), ('alert tcp any any -> any any (content:"x"; sid:a;)', "sid: expected a number"),
        ('alert tcp any any -> any any (nocase; sid:1;)', "nocase: expected behind a content"), ('alert tcp any any -> any any (content:"abc"; depth:2; sid:1;)', "depth: expected at least"),
        ('alert tcp any any -> any any (content:"x"; nocase:1; sid:1;)', "expected no value"), ('alert tcp any any -> any any (content; sid:1;)', "expected a value"),
        ('alert tcp 10.0.0.300 any -> any any (content:"x"; sid:1;)', "addresses and ports"), ('alert tcp any any -> any any (content:"x"; offset:-1; sid:1;)', "no negative"),
        ('alert tcp any any -> any any (pcre:"a"; sid:1;)', "expected /expression/letters"), ('alert http any any -> any any (http.uri; bsize:a; sid:1;)', "bsize: expected"),
        ('alert tcp any any -> any any (content:"x"; offset:1; startswith; sid:1;)', "not together"), ('alert http any any -> any any (urilen:5,x; sid:1;)', "raw or norm"),
        ('alert tcp any any -> any any (content:"x"; isdataat:1,x; sid:1;)', "expected relative"), ('alert tcp any any -> any any (content:"x"; byte_test:1,>; sid:1;)', "expected bytes"),
        ('alert tcp any any -> any any (content:"x"; byte_test:9,>,1,0; sid:1;)', "1 to 8"), ('alert tcp any any -> any any (content:"x"; byte_test:1,~,1,0; sid:1;)', "an operator"),
        ('alert http any any -> any any (pcre:"/a/UH"; sid:1;)', "one buffer"),
        ('alert tcp any any -> any any (content:"x"; flow:established,,to_server; sid:1;)', "each side of a comma"),
    ],
)  # fmt: skip
def test_tells_what_is_wrong_with_a_rule(text: str, says: str) -> None:
    found = coverage(text)
    assert not found.unsupported
    assert says in found.broken[0].detail
    assert (found.broken[0].line, found.loaded) == (1, 0)


def test_rejects_a_content_that_the_engine_does_not_take_and_keeps_the_other_rules() -> None:
    found = coverage(
        rule(f'http.uri; content:"{"a" * 4000}";', sid=1),
        rule(f'http.uri; content:"{"a" * 4001}";', sid=2),
        rule(f'content:"{"a" * 4001}";', sid=3),
    )
    assert (found.loaded, found.keywords) == (1, {"content": 2})
    assert found.unsupported[0].detail == "longer than 4000 bytes"


def test_numbers_are_decimal_also_behind_a_zero_and_never_endless() -> None:
    assert stopped_by('content:"x"; byte_test:1,>,010,0,relative;') == ""
    assert stopped_by(f'content:"x"; byte_test:1,>,{"9" * 5000},0,relative;') == "byte_test"


def test_a_sid_that_stands_twice_is_an_error_and_the_first_stays() -> None:
    found = coverage(rule('content:"x";'), rule('content:"y";'))
    assert found.loaded == 1
    assert "stands twice; also at t.rules:1" in found.broken[0].detail


def test_every_rule_is_accounted_for() -> None:
    found = coverage(
        "# alert",
        rule('content:"x";', sid=1),
        rule("lua:x;", sid=2),
        rule('content:"|4|";', sid=3),
        "nonsense",
    )
    assert (found.loaded, len(found.unsupported), len(found.broken)) == (1, 1, 2)
    assert found.unsupported[0].sid == "2"
    assert found.keywords == {"lua": 1}
    assert coverage(rule('content:"x";', "alert tcp $A any -> $B any"), B="10.0.0.1").assumed == {"A"}


def test_rules_about_bits_that_nobody_sets_are_named_to_the_last() -> None:
    found = coverage(
        rule('content:"x"; flowbits:isset,a|b;', sid=1),
        rule('content:"x"; flowbits:isset,a; flowbits:set,c;', sid=2),
        rule('content:"x"; flowbits:isset,c;', sid=3),
        rule('content:"x"; flowbits:set,b; flowbits:noalert;', "alert tcp any any -> any any", sid=4),
    )
    assert (found.loaded, found.keywords) == (2, {"flowbits": 2})
    assert {(one.sid, one.detail) for one in found.unsupported} == {
        ("2", "no rule in force sets a"), ("3", "no rule in force sets c"),
    }  # fmt: skip
