"""Tools say what they like, in any encoding."""

import pytest

from vmhost.errors import HostError
from vmhost.image.tool import run_tool


def test_a_tool_that_prints_no_text_is_an_error_like_another() -> None:
    assert run_tool(["printf", r"\377"]) == "\ufffd"
    with pytest.raises(HostError) as raised:
        run_tool(["sh", "-c", r"printf '\377' >&2; exit 3"])
    assert (raised.value.code, raised.value.message) == ("build-failed", "sh ended with 3: \ufffd")
