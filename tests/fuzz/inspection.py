"""Fuzz what reads the content of flows: streams of both directions, parts, archives, captures."""

import contextlib
import io
from functools import cache
from pathlib import Path

from scapy.layers.inet import fragment

from filters.inspection.assignments import Assignment, Assignments
from filters.inspection.datagrams import Datagrams
from filters.inspection.finding import Direction
from filters.inspection.fingerprints.engine import Engine
from filters.inspection.fingerprints.markup import plain
from filters.inspection.fingerprints.recoded import in_utf8
from filters.inspection.fingerprints.set_file import encode
from filters.inspection.limits import Limits
from filters.inspection.objects.archive import Budget, members
from filters.inspection.objects.file_type import file_type
from filters.inspection.objects.judge import Judge
from filters.inspection.objects.mime import form_parts, message_parts
from filters.inspection.offline.capture import Capture
from filters.inspection.offline.twin import Twin
from filters.inspection.packet import Unreadable
from filters.inspection.spec import InspectionSpec
from filters.inspection.stream import StreamInspector, Verdict
from filters.inspection.suricata.ruleset import load_rules
from filters.inspection.toolbox import Toolbox
from filters.inspection.worker.opening import read_ends
from filters.inspection.worker.windows import read_shift
from tests.filters.inspection import (
    drive,
    test_datagrams,
    test_http,
    test_objects,
    test_offline,
    test_protocols,
)
from tests.filters.inspection.fingerprints import documents
from tests.filters.inspection.offline import test_connections
from tests.filters.inspection.suricata import drive as suricata

RULED: list[suricata.Said] = [
    (
        drive.UP,
        b"POST /admin/a HTTP/1.1\r\nHost: h\r\nUser-Agent: upd8r/1\r\nContent-Length: 14\r\n\r\nroot:x:0:0:::\n",
    ),
    (drive.DOWN, drive.answer(b"some text", b"Server: x")),
]
LIMITS = Limits(object=1 << 20, ratio_from=1 << 16, unpacked=1 << 20, members=50)
TURN = b"\xff\xfe\xfd"  # where the other end speaks


@cache
def judge() -> Judge:
    return Toolbox(limits=LIMITS).judge(InspectionSpec(drive.SPEC.detectors))


def talk(data: bytes, size: int) -> tuple[str, tuple[int, int]]:
    """Feed a conversation in pieces; return what ended it and how much was released."""
    inspector = StreamInspector(judge().spec, judge().patterns, LIMITS)
    released, fed, verdict = (0, 0), [0, 0], Verdict((0, 0))
    for turn, said in enumerate(data[1:].split(TURN)):
        direction = Direction((turn + data[0]) % 2)
        for at in range(0, len(said), size):
            piece = said[at : at + size]
            fed[direction] += len(piece)
            verdict = inspector.feed(direction, piece)
            while verdict.jobs and not verdict.cut:
                verdict = inspector.judged(verdict.jobs[0].number, [])
            assert all(
                old <= new <= most for old, new, most in zip(released, verdict.release, fed, strict=True)
            )
            released = verdict.release
            if verdict.cut:
                inspector.close()
                return verdict.cut.check, released
    for direction in Direction:
        verdict = inspector.pause(direction)
        if verdict.cut:
            break
    inspector.close()
    return verdict.cut.check if verdict.cut else "", released


def stream(data: bytes) -> None:
    """Whether a conversation passes must not depend on how its bytes are cut into segments."""
    if len(data) < 2:
        return
    whole, pieces = talk(data, len(data)), talk(data, 7)
    # a server that answers what it was not asked yet: until mail shows, who spoke first is not kept
    if "smtp-reply" not in (whole[0], pieces[0]):
        assert bool(whole[0]) == bool(pieces[0]), (whole, pieces)


def rules(data: bytes) -> None:
    """Any text is rules or errors with places; what is loaded finds the same however the bytes are cut."""
    text = data.decode("utf-8", "surrogateescape")
    found, coverage = load_rules([("fuzz.rules", text)])
    for one in (*coverage.broken, *coverage.unsupported):
        assert one.line >= 1
        assert one.detail
    if found.rules:
        whole, pieces = (
            suricata.follow(found, suricata.cut_up(RULED, range(size, 2000, size))) for size in (2000, 7)
        )
        assert bool(whole.cut) == bool(pieces.cut), (whole.checks, pieces.checks)
        assert whole.cut or sorted(whole.checks) == sorted(pieces.checks)


def rule_files() -> list[bytes]:
    return [(Path(__file__).parents[2] / "examples/suricata.rules").read_bytes()]


def mime(data: bytes) -> None:
    budget = Budget(LIMITS)
    form = data.startswith(b"--xyz")
    for _ in (
        form_parts(data, "multipart/form-data; boundary=xyz", budget) if form else message_parts(data, budget)
    ):
        pass


def archive(data: bytes) -> None:
    for _ in members(data, file_type(data).media_type, Budget(LIMITS)):
        pass


def capture(data: bytes) -> None:
    list(Twin(judge(), LIMITS).events(Capture(io.BytesIO(data))))


def datagrams(data: bytes) -> None:
    """Whatever comes in a packet, there is a verdict, and the same one for the same packets."""
    assignments = Assignments(
        tuple(Assignment(one, "10.0.0.2", "10.0.0.3", 0, 65535, "r", judge().spec) for one in (1, 17))
    )
    with contextlib.suppress(Unreadable):
        read_shift(data)
        read_ends(data)
    verdicts = []
    for _ in range(2):
        inspector = Datagrams(lambda _spec: judge(), lambda _spec: frozenset(), lambda _flow, _finding: None)
        packets = data.split(TURN)
        verdicts.append([inspector.verdict(one, assignments, float(now)) for now, one in enumerate(packets)])
    assert verdicts[0] == verdicts[1]


def packets() -> list[bytes]:
    query = b"\0\1\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"
    both = test_datagrams.udp(query), test_datagrams.udp(query, answer=True)
    return [TURN.join(both), test_datagrams.udp(b"text", port=9), test_datagrams.echo(b"ping")]


def conversations() -> list[bytes]:
    """Return conversations of every protocol, as seeds."""
    stories = [
        [
            (drive.UP, drive.GET),
            (drive.DOWN, drive.answer(drive.chunked(b"hello"), b"Transfer-Encoding: chunked", length=False)),
        ],
        [
            (drive.UP, drive.GET * 2),
            (
                drive.DOWN,
                drive.answer(b"x")
                + drive.answer(test_http.CODERS["gzip"](b"text"), b"Content-Encoding: gzip"),
            ),
        ],
        [
            (drive.UP, b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc"),
            (drive.DOWN, drive.answer(b"", status=b"HTTP/1.1 204 X", length=False)),
        ],
        [(drive.UP, test_protocols.client_hello())],
        [(drive.UP, test_protocols.dns_tcp(b"\0\1\1\0\0\1\0\0\0\0\0\0\3www\7example\0\0\1\0\1"))],
        [(drive.UP, b"SSH-2.0-x\r\n"), (drive.DOWN, b"SSH-2.0-y z\r\n")],
        test_protocols.smtp(test_protocols.mail(b"attached")),
    ]
    found = []
    for story in stories:
        turns: list[bytes] = []
        last = None
        for way, data in story:
            if way is last:
                turns[-1] += data
            else:
                turns.append(data)
            last = way
        found.append(bytes([story[0][0]]) + TURN.join(turns))
    return found


def messages() -> list[bytes]:
    return [
        test_protocols.mail(b"attached"),
        b'--xyz\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--xyz--\r\n',
        b"Subject: =?utf-8?B?YQ==?= =?utf-7?Q?+AGE-?=\r\n\r\nbegin 644 a\r\n#86)C\r\n`\r\nend\r\nbegin-base64 644 b\r\nYQ==\r\n====\r\n",
        b"Content-Type: text/plain; charset=utf-7; format=flowed; delsp=yes\r\n\r\n+AGE- \r\nb\r\n",
    ]


def archives() -> list[bytes]:
    return [
        test_objects.zipped({"a": b"text"}),
        test_objects.tarred({"a": b"text"}),
        test_http.CODERS["gzip"](b"text"),
    ]


def captures() -> list[bytes]:
    strays = test_connections.up(7, flags="S", ack=0), test_connections.up(100, b"x", flags="R")
    again = *strays, *test_connections.shake(7, 8), test_connections.up(8, b"text", flags="FA")
    pieces = [piece for one in again for piece in fragment(one, 24)]
    return [test_offline.WHOLE, test_offline.WHOLE_NG, test_offline.pcap(pieces)]


PROTECTED = documents.prose(1, 1500)


@cache
def prints() -> Engine:
    return documents.engine({"plan": PROTECTED})


def fingerprints(data: bytes) -> None:
    """What is recognised, and with which byte, must not depend on how a stream is cut."""
    size, text = (data[0] + 1, data[1:]) if data else (1, b"")
    one, two = prints().watch(), prints().watch()
    whole = one.scan("stream", text)
    pieces = [piece for at in range(0, len(text), size) for piece in two.scan("stream", text[at : at + size])]
    assert whole == pieces, (whole, pieces)
    assert bool(whole) == bool(prints().whole(text))


def markup(data: bytes) -> None:
    plain(data)
    in_utf8(data)
    list(prints().inside(data))


def set_seeds() -> list[bytes]:
    return [
        encode(documents.print_set({})),
        encode(documents.print_set({"plan": PROTECTED[:200]}, {"letter": documents.prose(2, 200)})),
    ]
