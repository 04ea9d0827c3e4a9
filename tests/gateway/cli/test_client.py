"""Asking a gateway that does not answer: what is advised fits what is there."""

import os
from pathlib import Path

import pytest

from gateway.cli.client import ApiClient, ApiError
from vmhost.names import Lab


def said(path: Path) -> str:
    with pytest.raises(ApiError) as raised:
        ApiClient(path).get("/v1/health")
    assert raised.value.code == "away"
    return raised.value.message


def test_names_the_way_back_to_what_was_kept() -> None:
    lab = Lab(f"tgc{os.getpid()}")
    assert said(lab.api_socket).endswith(f"is it running? (quotegate lab up --lab {lab.name})")
    lab.kept_dir.mkdir(parents=True)
    try:
        assert said(lab.api_socket).endswith(f"is it running? (quotegate lab resume --lab {lab.name})")
    finally:
        lab.kept_dir.rmdir()
        lab.state_dir.rmdir()


def test_names_no_lab_for_a_socket_that_is_none(tmp_path: Path) -> None:
    for path in (tmp_path / "gateway/quotegated/api.sock", Path("/run/quotegate/lab/other.sock"), Path("x")):
        assert said(path).endswith("is it running?")
