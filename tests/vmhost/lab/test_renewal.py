"""What is signed for a lab that was kept is signed anew: real documents and disks, no machine."""

import json
import os
import stat
import time
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from authn.portmap import KIND as PORTMAP
from authn.portmap import PortMap
from authn.reference import KIND as REFERENCES
from authn.reference import ReferenceEvent, ReferenceSet
from authn.signing import verify_document
from vmhost.errors import HostError
from vmhost.lab import renewal, setup
from vmhost.lab.defaults import default_spec
from vmhost.lab.gateway_vm import OWN_REFERENCES, SETTINGS_DISK, slot_directory, slots_file
from vmhost.lab.kept import keep, kept_spec, spec_file, write_spec
from vmhost.lab.provisioning import LabPaths, load_administrator_key, make_administrator_key, make_directories
from vmhost.lab.renewal import demand_valid, renew, valid_until
from vmhost.lab.setup import bring_back
from vmhost.lab.teardown import tear_down
from vmhost.lab.vms import VmPaths, golden_dir
from vmhost.names import GATEWAY, Lab
from vmhost.signing_key import public_keys
from vmhost.spec import LabSpec
from vmhost.update.slots import Slot, Slots
from vmhost.vm.golden import check_firmware, sign_golden
from vmhost.vm.settings import network_text, pack_settings, unpack_settings

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a lab's directories belong to several uids")
DAY = 86400.0
FIRST = Ed25519PrivateKey.generate()  # signed what the lab came up with
VALUES = {"guest-4": (ReferenceEvent("kernel", bytes(32)),)}


def provisioned(spec: LabSpec, not_after: float) -> None:
    """Write a lab's signed documents, setup files and disks, as they are after an update."""
    administrator, paths = load_administrator_key(spec.lab), LabPaths(spec.lab)
    documents = {
        "portmap.json": PortMap(3, spec.peers).sign(not_after, FIRST),
        "references.json": ReferenceSet(1, not_after, VALUES).sign(FIRST),
    }
    for name, content in documents.items():
        (paths.shared / name).write_bytes(content)
    keys = {
        "portmap_keys": public_keys(FIRST),
        "reference_keys": public_keys(FIRST) | public_keys(administrator),
    }
    paths.gateway_setup.write_text(json.dumps(keys))
    own = {OWN_REFERENCES: ReferenceSet(2, not_after, VALUES).sign(administrator)}
    for slot, more in ((Slot.A, {}), (Slot.B, own)):
        disk(slot_directory(spec.lab, slot) / SETTINGS_DISK, spec, keys, documents | more)
    for peer in spec.peers:
        trusted = {"reference_keys": keys["reference_keys"]}
        disk(
            VmPaths(spec.lab, peer.peer).settings,
            spec,
            trusted,
            {"references.json": documents["references.json"]},
        )
    slots_file(spec.lab).write_text(replace(Slots.first(1), active=Slot.B, b=Slots.first(2).a).to_json())
    firmware = spec.lab.state_dir / "firmware.fd"
    firmware.write_bytes(b"firmware")
    sign_golden(firmware, golden_dir(spec.lab), 1, not_after, administrator)


def disk(path: Path, spec: LabSpec, keys: dict[str, Any], files: dict[str, bytes]) -> None:
    """Write a machine's settings disk."""
    path.parent.mkdir(parents=True, exist_ok=True)
    network = network_text(spec.gateway, IPv4Interface("10.77.0.1/24"))
    path.write_bytes(pack_settings(keys, network, {**files, "material/words.txt": b"secret plans"}))
    path.chmod(0o600)


@pytest.fixture
def spec() -> Iterator[LabSpec]:
    """A lab that is down, whose documents ran out a minute ago."""
    one = replace(default_spec(Lab(f"trn{os.getpid()}"), 2), images=Path("/images"), gateway_vm=True)
    try:
        make_directories(one)
        make_administrator_key(one.lab)
        write_spec(spec_file(one.lab.run_dir), one)
        provisioned(one, time.time() - 60)
        keep(one)
        tear_down(one.lab, keep_state=True)
        yield one
    finally:
        tear_down(one.lab)


def every_disk(spec: LabSpec) -> list[Path]:
    """Name them all."""
    slots = [slot_directory(spec.lab, slot) / SETTINGS_DISK for slot in Slot]
    return [*slots, *(VmPaths(spec.lab, peer.peer).settings for peer in spec.peers)]


def test_rejects_a_start_with_documents_that_ran_out(spec: LabSpec, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "_start", lambda *_: pytest.fail("something was started"))
    with pytest.raises(HostError) as raised:
        bring_back(spec.lab)
    assert raised.value.code == "expired"
    assert f"quotegate lab resume --days 30 --lab {spec.lab.name}" in raised.value.message


def test_a_start_with_days_has_everything_hold_that_long(
    spec: LabSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[LabSpec] = []
    monkeypatch.setattr(setup, "_start", lambda spec, _: started.append(spec))
    assert bring_back(spec.lab, 5) == replace(spec, valid_days=5) == kept_spec(spec.lab)
    assert started == [replace(spec, valid_days=5)]
    assert valid_until(spec) == pytest.approx(time.time() + 5 * DAY, abs=60)
    demand_valid(spec)
    # what its services read now
    read = json.loads(LabPaths(spec.lab).gateway_setup.read_text())
    keys = {name: bytes.fromhex(key) for name, key in read["portmap_keys"].items()}
    document = (LabPaths(spec.lab).shared / "portmap.json").read_bytes()
    assert PortMap.from_document(verify_document(document, PORTMAP, keys, time.time())) == PortMap(
        3, spec.peers
    )


def test_only_the_end_of_a_document_is_another(spec: LabSpec) -> None:
    renew(spec, 5)
    administrator = load_administrator_key(spec.lab)
    keys, now = {name: bytes.fromhex(key) for name, key in public_keys(administrator).items()}, time.time()
    versions = {"references.json": 1, OWN_REFERENCES: 2}
    for path in every_disk(spec):
        files = unpack_settings(path.read_bytes())
        for name, version in versions.items():
            if name in files:
                found = ReferenceSet.from_document(verify_document(files[name], REFERENCES, keys, now))
                assert (found.version, dict(found.values)) == (version, VALUES)
        assert files["material/words.txt"] == b"secret plans"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert OWN_REFERENCES in unpack_settings((slot_directory(spec.lab, Slot.B) / SETTINGS_DISK).read_bytes())
    installed = spec.lab.state_dir / "firmware.fd"
    assert not check_firmware(installed, golden_dir(spec.lab), keys, now).restored


def test_who_signed_the_first_port_map_signs_none_any_more(spec: LabSpec) -> None:
    renew(spec, 5)
    for slot in Slot:
        files = unpack_settings((slot_directory(spec.lab, slot) / SETTINGS_DISK).read_bytes())
        assert json.loads(files["setup.json"])["portmap_keys"] == public_keys(
            load_administrator_key(spec.lab)
        )


def test_one_that_is_cut_short_starts_nothing_and_is_done_anew(
    spec: LabSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever write is the last one before the host ends."""
    whole = renewal.write_durably
    for survived in range(100):
        left = iter(range(survived))

        def write(*what: Any, left: Iterator[int] = left) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            whole(*what)

        with monkeypatch.context() as patched:
            patched.setattr(renewal, "write_durably", write)
            try:
                renew(spec, 5)
            except KeyboardInterrupt:
                with pytest.raises(HostError) as raised:
                    demand_valid(spec)
                assert raised.value.code == "expired"
            else:
                break
    assert survived > len(every_disk(spec)) + 3
    demand_valid(spec)


@pytest.mark.parametrize("what", ["portmap.json", "references.json"])
def test_rejects_a_document_that_was_altered(spec: LabSpec, what: str) -> None:
    path = spec.lab.kept_dir / "shared" / what
    path.write_bytes(path.read_bytes().replace(b'"not_after":', b'"not_after":1'))
    with pytest.raises(HostError) as raised:
        renew(spec, 5)
    assert raised.value.code == "not-renewed"
    assert str(path) in raised.value.message
    with pytest.raises(HostError) as raised:
        demand_valid(spec)
    assert raised.value.code == "expired"


def test_rejects_a_disk_that_is_none(spec: LabSpec) -> None:
    path = VmPaths(spec.lab, spec.peers[0].peer).settings
    path.write_bytes(b"noise" * 1000)
    with pytest.raises(HostError) as raised:
        renew(spec, 5)
    assert (raised.value.code, str(path) in raised.value.message) == ("not-renewed", True)


def test_rejects_a_start_whose_dates_cannot_be_read(spec: LabSpec) -> None:
    (slot_directory(spec.lab, Slot.B) / SETTINGS_DISK).unlink()
    with pytest.raises(HostError) as raised:
        bring_back(spec.lab)
    assert raised.value.code == "bad-state"
    assert GATEWAY in raised.value.message
