"""Requests to the monitor: what is understood, and from whom."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vmhost.errors import HostError
from vmhost.monitor import protocol
from vmhost.monitor.protocol import parse
from vmhost.names import AGENT_UID, GATEWAY_UID, NETD_UID, TPM_UID, TPMD_UID

UIDS = (0, NETD_UID, TPMD_UID, GATEWAY_UID, AGENT_UID, TPM_UID, 1000)
REQUESTS: list[tuple[dict[str, Any], protocol.Request, set[int]]] = [
    (
        {"op": "restart_peer", "peer": "web", "reason": "x"},
        protocol.RestartPeer("web", "x"),
        {0, GATEWAY_UID},
    ),
    (
        {"op": "report_gateway_refused", "peer": "web", "reason": "pcr-mismatch"},
        protocol.ReportGatewayRefused("web", "pcr-mismatch"),
        {0, AGENT_UID},
    ),
    ({"op": "end_inspector", "pid": 7}, protocol.EndInspector(7), {0, GATEWAY_UID}),
    ({"op": "restart_gateway", "reset_tpm": True}, protocol.RestartGateway(True), {0}),
    ({"op": "restart_gateway"}, protocol.RestartGateway(), {0}),
    ({"op": "check_update", "directory": "u"}, protocol.CheckUpdate("u"), {0}),
    (
        {"op": "apply_update", "directory": "u", "tries": 2, "within_s": 240},
        protocol.ApplyUpdate("u", 2, 240),
        {0},
    ),
    ({"op": "roll_back_update", "tries": 2, "within_s": 240}, protocol.RollBackUpdate(2, 240), {0}),
    ({"op": "commit_update"}, protocol.CommitUpdate(), {0}),
    ({"op": "update_status"}, protocol.UpdateStatus(), set(UIDS)),
    ({"op": "start_machine", "name": "web"}, protocol.StartMachine("web"), {0}),
    ({"op": "stop_machine", "name": "gateway"}, protocol.StopMachine("gateway"), {0}),
    ({"op": "list_vms"}, protocol.ListVms(), set(UIDS)),
    ({"op": "vm_evidence", "name": "web"}, protocol.VmEvidence("web"), {0}),
    ({"op": "pause", "on": True}, protocol.Pause(True), {0}),
    ({"op": "shutdown"}, protocol.Shutdown(), {0}),
    ({"op": "status"}, protocol.Status(), set(UIDS)),
]


@pytest.mark.parametrize(("request_", "parsed", "allowed"), REQUESTS)
def test_each_request_is_for_its_callers_alone(
    request_: dict[str, Any], parsed: protocol.Request, allowed: set[int]
) -> None:
    raw = json.dumps(request_).encode()
    for uid in UIDS:
        if uid in allowed:
            assert parse(raw, uid) == parsed
        else:
            with pytest.raises(HostError) as refused:
                parse(raw, uid)
            assert refused.value.code == "not-permitted"


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"x", b"[]", b"1", b"null", b"{}", b'{"op": 1}', b'{"op": ["status"]}', b'{"op": "reboot"}',
        b'{"op": "restart_peer"}', b'{"op": "restart_peer", "peer": 1}', b'{"op": "restart_peer", "peer": null}',
        b'{"op": "restart_peer", "peer": "web", "more": "x"}', b'{"op": "pause", "on": 1}', b'{"op": "pause"}',
        b'{"op": "restart_gateway", "reset_tpm": "no"}', b'{"op": "status", "op_": 1}', b'{"op": "\xff"}',
        b'{"op": "restart_peer", "peer": "' + b"x" * 1001 + b'"}', b"[" * 100_000,
    ],
)  # fmt: skip
def test_rejects_malformed_request(raw: bytes) -> None:
    with pytest.raises(HostError) as refused:
        parse(raw, 0)
    assert refused.value.code == "malformed-request"


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(raw: bytes) -> None:
    try:
        parse(raw, 0)
    except HostError as error:
        assert error.code == "malformed-request"


VALUES = st.sampled_from(
    [None, True, False, 0, 1, 1.5, "", "web", "\0", "x" * 1001, "\ud800", [], ["web"], {"on": True}]
)
NAMES = st.sampled_from(["peer", "reason", "reset_tpm", "on", "x"])


@given(
    st.sampled_from([one[0]["op"] for one in REQUESTS]), st.dictionaries(NAMES, VALUES), st.sampled_from(UIDS)
)
def test_any_fields_are_a_request_or_refused(op: str, more: dict[str, Any], uid: int) -> None:
    try:
        parsed = parse(json.dumps({"op": op, **more}).encode(), uid)
    except HostError as error:
        assert error.code in ("malformed-request", "not-permitted")
    else:
        assert parsed.op == op


def test_a_message_is_its_length_and_json() -> None:
    assert protocol.encode({"ok": True}) == b'\0\0\0\x0c{"ok": true}'
