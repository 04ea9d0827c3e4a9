"""A process of a VM, whose guest decides how much it writes."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from vmhost.process import MAX_LOG, Program, Rights, Running
from vmhost.vm.child import Child, child, last_words

# writes more than may be kept, in one go, then a last line
TALKS = "import os, sys, time; os.write(2, b'x' * int(sys.argv[1])); time.sleep(1.5); print('last')"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: programs are started with rights of their own")
def test_its_log_is_kept_small_while_it_runs(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = Program(
        "talks", (sys.executable, "-c", TALKS, str(2 * MAX_LOG)), "", Rights(os.getuid(), os.getgid()), log
    )

    async def story() -> None:
        async with child(program) as one:
            async with asyncio.timeout(20):
                await one.ended()
            assert one.describe_end().endswith("it last said: last")

    asyncio.run(story())
    assert log.stat().st_size < 100


def test_last_words_are_harmless_to_a_terminal(tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"one\n\x1b[2Jtwo\xff\x07\n")
    assert last_words(tmp_path / "log") == "one | \\x1b[2Jtwo\ufffd\\x07"


@pytest.mark.timeout(10)
def test_one_that_is_over_is_not_waited_for_by_a_pid_that_is_used_anew(tmp_path: Path) -> None:
    process = subprocess.Popen(["true"])
    process.wait()
    one = Child(Running(Program("over", ("true",), "", Rights(0, 0), tmp_path / "log"), process))
    one.pid = os.getpid()  # whose pid is that of another by now
    asyncio.run(one.ended())
