"""Short marks: found in text at every cut, and not where bytes are random."""

import random
from dataclasses import replace

import pytest

from filters.inspection.matching.database import Database
from filters.inspection.matching.scanner import Scanner
from filters.inspection.patterns.load import parse_patterns
from filters.inspection.patterns.surroundings import BEFORE, stands_in_text
from tests.filters.inspection.test_scanner import scan

WORDS = ["绝密", "机密", "秘密", "機密"]
DATABASE = Database(
    parse_patterns(f'[[mark]]\nid = "m"\nwords = {WORDS!r}\n'.replace("'", '"'), "marks", "m.toml")
)
SIMPLIFIED = (
    "本公司二〇二六年度经营计划（草案），由董事长镕基、财务总监喆文共同起草。\r\n",
    "Project Falcon, v1.2 (2026-11-30): 预算 12,500,000 元；联系人：zhang@example.cn，",
    "<p class=\"x\">第三章　技术方案</p>\n\t<td>", "姓名,部门,级别\n张三,研发,", "#include <stdio.h>\n/* ", "",
)  # fmt: skip
TRADITIONAL = (
    "本公司二〇二六年度經營計畫（草案），由董事長與財務總監共同起草。\r\n",
    "臺灣分公司：預算 12,500,000 元；",
    "",
)
CASES = [
    *((coding, text, "绝密") for text in SIMPLIFIED for coding in ("utf-8", "gb18030", "utf-16-le", "utf-16-be")),
    *((coding, text, "機密") for text in TRADITIONAL for coding in ("utf-8", "gb18030", "big5", "utf-16-le")),
]  # fmt: skip


@pytest.mark.parametrize(("coding", "text", "mark"), CASES)
@pytest.mark.parametrize("before", ["", "\N{BOM}"])
def test_finds_a_mark_in_text_at_every_cut(coding: str, text: str, mark: str, before: str) -> None:
    if before and not coding.startswith("utf"):
        return
    raw = f"{before}{text * 3}{mark}文件，请勿外传。".encode(coding, "ignore")
    for cut in range(len(raw) + 1):
        assert len(scan([raw[:cut], raw[cut:]], DATABASE)) == 1, cut
    assert len(scan([raw[at : at + 1] for at in range(len(raw))], DATABASE)) == 1


@pytest.mark.parametrize("coding", ["gb18030", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("length", [b"\0\0\0\x04", b"\x04\0\0\0", b"\x80\x02\0\0", b"\x02\0\x01", b"\0\0"])
def test_finds_a_mark_that_is_a_string_of_a_binary_file(coding: str, length: bytes) -> None:
    draw = random.Random(5)
    head = draw.randbytes(600) if len(length) > 2 else b""
    assert scan([head + length + "绝密".encode(coding) + head], DATABASE)


def test_takes_no_random_bytes_for_a_mark() -> None:
    """As in what TLS, SSH and compression make: of two thousand times that such bytes stand there one may count."""
    draw = random.Random(9)
    for coding in ("gb18030", "utf-16-le", "utf-16-be"):
        form = "绝密".encode(coding)
        whole = cut = 0
        for _ in range(40):  # streams: one with more than chance makes is taken for made
            noise = b"".join(draw.randbytes(BEFORE + draw.randrange(40)) + form for _ in range(50))
            whole += len(scan([draw.randbytes(100) + noise], DATABASE))
            pieces = [noise[at : at + 100] for at in range(0, len(noise), 100)]
            cut += len(scan([draw.randbytes(100), *pieces], DATABASE))
        assert max(whole, cut) <= 3


SIGNS = (
    "★", "■", "① ", "→", "────", "══════════", "℃", "№", "√ ", "☑ ", "㊙", "㎡", "🔒 ", "⚠️ ", "⭐", "\uf0b7 ",
    "┌────┬────┐\r\n│编号│密级│\r\n├────┼────┤\r\n│ 1  │",
)  # fmt: skip


@pytest.mark.parametrize("coding", ["gb18030", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("begins", ["", "关于印发《工作方案》的通知，请各单位遵照执行。\r\n"])
def test_finds_a_mark_behind_signs(coding: str, begins: str) -> None:
    for sign in SIGNS:
        assert len(scan([f"{begins}{sign}机密文件".encode(coding)], DATABASE)) == 1, sign


@pytest.mark.parametrize("coding", ["gb18030", "utf-16-le", "utf-16-be"])
def test_finds_a_mark_behind_a_beginning_with_one_rare_character(coding: str) -> None:
    for begin in ("陈喆：", "㐂", "\ue000 ", "㐂田公司："):
        assert len(scan([f"{begin}机密文件".encode(coding)], DATABASE)) == 1, begin


def test_finds_marks_that_stand_behind_no_text_more_often_than_by_chance() -> None:
    unit = b"\x80\xff" * (BEFORE // 2) + "机密".encode("gb18030")
    assert scan([unit] * 64, DATABASE) == []
    scanner = Scanner(DATABASE)
    for _ in range(64):
        assert scanner.scan(unit) == []
    assert len(scanner.scan(unit * 100)) == 100


def test_looks_a_bounded_number_of_times_at_what_stands_before_marks() -> None:
    """Each look costs many times what the mark does, and a stream can consist of marks that don't count."""
    looks = 0

    def around(_before: bytes) -> bool:
        nonlocal looks
        looks += 1
        return False

    database = Database([replace(one, around=around) for one in DATABASE.patterns if one.around])
    scan([b"\xff" + "机密".encode("gb18030")] * 5000, database)
    assert looks < 100


@pytest.mark.parametrize("coding", ["gb18030", "big5", "utf-16-le", "utf-16-be", "utf-8"])
def test_the_shortest_beginning_is_text(coding: str) -> None:
    assert stands_in_text(b"", coding)
    assert not stands_in_text(b"\xff\xfb\x90\xd8\x81\xfe\xff\xdc" * 6, coding)


def test_marks_of_ascii_stand_in_text_of_any_encoding() -> None:
    database = Database(parse_patterns('[[mark]]\nid = "m"\nwords = ["NATO"]\n', "marks", "m.toml"))
    assert scan(["für Größe: ".encode("latin-1") * 9 + b"NATO"], database)
    assert scan(["档案：".encode("gb18030") * 9 + b"NATO"], database)
