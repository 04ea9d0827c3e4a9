"""The signed documents of a start: an expired reference set warns, anything else that is wrong names its file."""

import time
from ipaddress import IPv4Address
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.portmap import PortEntry, PortMap
from authn.reference import KIND, ReferenceSet
from authn.signing import key_id, sign_document
from gateway.daemon.documents import load_portmap, load_references, own_references
from gateway.setup import SetupError

KEY = Ed25519PrivateKey.generate()
PUBLIC = KEY.public_key().public_bytes_raw()
KEYS = {key_id(PUBLIC): PUBLIC}
DAY = 86400.0


def setup(**files: object) -> Any:
    return SimpleNamespace(reference_keys=KEYS, portmap_keys=KEYS, own_references=None, **files)


def a_set(path: Path, ends_in: float) -> Path:
    path.write_bytes(sign_document(KIND, 1, time.time() + ends_in, {"values": {}}, KEY))
    return path


def test_an_expired_set_warns_and_is_still_known_as_expired(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Known, so that whoever it would have let in is refused for its age and not blamed."""
    old, new = a_set(tmp_path / "old.json", -DAY), a_set(tmp_path / "new.json", DAY)
    sets = load_references(setup(references=(old, new)))
    assert [one.not_after > time.time() for one in sets] == [False, True]
    assert all(isinstance(one, ReferenceSet) for one in sets)
    assert f"{old}: this reference set has expired" in caplog.text
    assert str(new) not in caplog.text


def test_a_set_of_this_image_that_expired_is_not_shown_to_peers(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    known = setup()
    assert own_references(known) is None
    known.own_references = a_set(tmp_path / "own.json", DAY)
    assert own_references(known) == known.own_references.read_bytes()
    assert caplog.text == ""
    a_set(known.own_references, -DAY)
    assert own_references(known) is None
    assert f"{known.own_references}: the reference set of this image has expired" in caplog.text
    assert "quotegate image sign" in caplog.text


@pytest.mark.parametrize("text", [b"{}", sign_document("other", 1, time.time() + DAY, {}, KEY), None])
def test_rejects_a_bad_set_by_its_file(tmp_path: Path, text: bytes | None) -> None:
    path = tmp_path / "bad.json"
    if text is not None:
        path.write_bytes(text)
    for read in (load_references, own_references):
        known = setup(references=(path,))
        known.own_references = path
        with pytest.raises(SetupError, match=r"bad\.json"):
            read(known)


def test_rejects_an_expired_port_map_by_its_file_and_with_the_next_step(tmp_path: Path) -> None:
    place = PortEntry("web", "p1", "52:54:00:00:00:01", IPv4Address("10.0.0.2"), "u1")
    path = tmp_path / "portmap.json"
    for ends_in in (DAY, -DAY):
        path.write_bytes(PortMap(1, (place,)).sign(time.time() + ends_in, KEY))
        known = setup(portmap=path)
        if ends_in > 0:
            assert load_portmap(known).entries == (place,)
        else:
            with pytest.raises(SetupError, match=r"portmap\.json: expired: .*signed anew"):
                load_portmap(known)
