"""What `quotegate policy` says of files and revisions that are not as they should be."""

import argparse
from pathlib import Path

import pytest

from gateway.cli import policy
from gateway.cli.operate import read_text
from gateway.errors import GatewayError


@pytest.mark.parametrize(
    ("content", "line"), [(b"schema = 1\n# gr\xfc\xdfe\n", 2), ("schema = 1\n".encode("utf-16"), 1)]
)
def test_rejects_a_file_that_is_not_utf_8_with_its_line(tmp_path: Path, content: bytes, line: int) -> None:
    path = tmp_path / "policy.toml"
    path.write_bytes(content)
    with pytest.raises(GatewayError, match=f"policy.toml:{line}:1: expected UTF-8, .*save the file as UTF-8"):
        read_text(path)


def test_a_revision_that_is_none_is_asked_for_as_it_was_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the request could not be written, and the gateway was said to be away."""
    asked = []

    class Api:
        def get(self, path: str) -> dict[str, str]:
            asked.append(path)
            return {"text": ""}

    monkeypatch.setattr(policy, "client", lambda _: Api())
    policy.show(argparse.Namespace(revision="1 2&\u00e4", json=False))
    assert asked == ["/v1/policy?revision=1%202%26%C3%A4"]
