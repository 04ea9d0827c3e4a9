"""What a peer chose to be called, or what it ran, does not fill the record."""

import json

import pytest

from gateway.events import model
from gateway.events.ocsf import MAX_DETAIL, Envelope, to_ocsf

ENVELOPE = Envelope(1, 1, "lab/gateway", "rev")
LONG = "PCR 10: /" + "\\xff" * 4095 + " is not what was built"


@pytest.mark.parametrize(
    "event",
    [
        model.AttestationFailed("web", "10.0.0.2", "unknown-file", LONG, True),
        model.PeerStateChanged("web", "trusted", "failed", "unknown-file", LONG),
        model.EnrollmentChanged("web", "10.0.0.2", "refused", "", LONG),
        model.SessionRefused("web", "db", "tcp/1", "no-rule", LONG, ""),
    ],
)
def test_rejects_a_detail_without_end(event: model.Event) -> None:
    assert len(json.dumps(to_ocsf(event, ENVELOPE))) < 5 * MAX_DETAIL


def test_rejects_a_detail_that_writes_lines_of_its_own() -> None:
    told = "/bin/x\n     7 12:00:00.000 gateway-started: epoch=0\x1b[1A"
    record = to_ocsf(model.AttestationFailed("web", "10.0.0.2", "unknown-file", told, True), ENVELOPE)
    for text in (record["message"], record["status_detail"], record["unmapped"]["detail"]):
        assert text.isprintable()
        assert "/bin/x\\u000a" in text
