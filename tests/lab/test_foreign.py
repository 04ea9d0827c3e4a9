"""A peer written from docs/protocol.md alone takes an agent's place in a running lab."""

import pytest

from tests.lab.conftest import RunningLab

pytestmark = [pytest.mark.lab, pytest.mark.netns, pytest.mark.tpm]


def test_a_foreign_peer_enrolls_attests_and_talks(lab: RunningLab) -> None:
    lab.cli("authority", "grant", "--for", "1h")
    echo = lab.start("db", "tests.foreign.echo", 5432)
    try:
        assert echo.stdout is not None
        echo.stdout.readline()
        with lab.without_agent("web"):
            said = lab.run(
                "web", "tests.foreign.peer", lab.setup("web"), "--enroll", "--connect", "db", "tcp/5432", 300_000,
                "--beacons", 23,
            )  # fmt: skip
    finally:
        echo.kill()
        echo.communicate()
    by_name = {one["event"]: one for one in said}
    assert by_name["enrolled"]["status"] == "approved"
    assert (by_name["result"]["granted"], by_name["result"]["ip"]) == (True, str(lab.spec.machine("db").ip))
    assert by_name["traffic"] == {"event": "traffic", "sent": 300_000, "same": True}
    assert by_name["done"]["beacons"] >= 23
    assert by_name["done"]["proofs"] >= 4
    assert lab.peer("web")["restarts"] == 0
