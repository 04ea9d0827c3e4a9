"""The monitor with real TPMs and processes: boot, restart, bring back, end."""

import asyncio
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from authn.event_log import parse_event_log, replay
from authn.pcr import PcrSelection
from authn.tpm import Tpm
from tests.vmhost.monitor.conftest import FIRST, SECOND, broken, inhabitants, watched_monitor
from vmhost.errors import HostError
from vmhost.monitor.monitor import GATEWAY_RESTARTS
from vmhost.monitor.newcomer import Newcomer
from vmhost.names import AGENT_UID, GATEWAY, GATEWAY_UID, NETD_UID

pytestmark = [pytest.mark.netns, pytest.mark.tpm]
CLEAN = bytes(32)


def test_every_machine_is_measured_and_runs_with_its_own_rights() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            for machine in (watched.monitor.gateway, *watched.monitor.peers.values()):
                log = machine._event_log.read_bytes()
                selection = PcrSelection.of([4, 7, 9, 10])
                with Tpm(watched.tcti(machine.name)) as tpm:
                    values = tpm.read_pcrs(selection)
                assert replay(parse_event_log(log), selection) == values
                assert values[10] == CLEAN
            uids = {FIRST: NETD_UID, SECOND: GATEWAY_UID, "agent-web": AGENT_UID, "agent-db": AGENT_UID}
            pids = {**watched.pids(GATEWAY), **watched.pids("web"), **watched.pids("db")}
            assert set(pids) == set(uids)
            for name, pid in pids.items():
                status = Path(f"/proc/{pid}/status").read_text()
                assert f"Uid:\t{uids[name]}\t{uids[name]}" in status
                assert "CapEff:\t0000000000000000" in status
                assert "NoNewPrivs:\t1" in status

    asyncio.run(story())


def test_a_restarted_guest_has_clean_pcrs_and_a_grown_reset_count() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            watched.extend("web")
            before, agent, other = watched.counters("web"), watched.pids("web"), watched.pids("db")
            assert watched.pcr("web", 10) != CLEAN
            answer = await watched.ask("restart_peer", peer="web", reason="pcr-mismatch")
            assert answer == {}
            assert watched.pcr("web", 10) == CLEAN
            assert watched.counters("web").reset_count > before.reset_count
            assert watched.pids("web").keys() == agent.keys()
            assert watched.pids("web") != agent
            assert watched.pids("db") == other
            await watched.ask("stop_machine", name="web")
            assert watched.pids("web") == {}
            assert not watched.monitor.machine("web").tpm.alive

    asyncio.run(story())


def test_two_restarts_of_one_guest_do_not_mix() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            await asyncio.gather(*(watched.ask("restart_peer", peer="web") for _ in range(3)))
            assert len(watched.pids("web")) == 1
            namespace = watched.lab.peer_namespace("web")
            assert sum(1 for _ in await _in(namespace)) == 3  # TPM, its share, agent

    asyncio.run(story())


async def _in(namespace: str) -> list[str]:
    done = await asyncio.to_thread(
        subprocess.run, ["ip", "netns", "pids", namespace], capture_output=True, text=True, check=True
    )
    return done.stdout.split()


def test_a_dead_gateway_process_takes_the_others_along_and_all_come_back() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            before, died = watched.pids(GATEWAY), time.monotonic()
            os.kill(before[FIRST], signal.SIGKILL)
            await watched.until(lambda: watched.pids(GATEWAY) == {}, 0.9)
            await watched.until(lambda: watched.monitor.gateway_starts == 2)
            assert time.monotonic() - died >= 1.0
            after = watched.pids(GATEWAY)
            assert after.keys() == before.keys()
            assert not set(after.values()) & set(before.values())

    asyncio.run(story())


def test_a_gateway_that_is_stopped_is_killed_and_restarted() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            watched.extend(GATEWAY)
            os.kill(watched.pids(GATEWAY)[SECOND], signal.SIGSTOP)
            await watched.until(lambda: watched.monitor.gateway_starts == 2, 15)
            assert watched.monitor.last_gateway_restart == "the gateway did not answer"
            assert (
                watched.pcr(GATEWAY, 10) != CLEAN
            )  # its machine was not reset: that would hide what happened

    asyncio.run(story())


def test_paused_the_monitor_leaves_a_dead_gateway_alone() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            await watched.ask("pause", on=True)
            os.kill(watched.pids(GATEWAY)[FIRST], signal.SIGKILL)
            await asyncio.sleep(1.5)
            assert list(watched.pids(GATEWAY)) == [SECOND]
            await watched.ask("pause", on=False)
            await watched.until(lambda: watched.monitor.gateway_starts == 2)

    asyncio.run(story())


def test_guests_that_refuse_the_gateway_reset_it_within_the_budget() -> None:
    async def story() -> None:
        async with watched_monitor(supervise=False) as watched:
            watched.extend(GATEWAY)
            reports = [
                watched.ask("report_gateway_refused", peer=p, reason="pcr-mismatch") for p in ("web", "db")
            ]
            await asyncio.gather(*reports)  # both speak of one gateway: one restart
            assert watched.monitor.gateway_starts == 2
            assert watched.pcr(GATEWAY, 10) == CLEAN
            assert watched.monitor.last_gateway_restart.endswith("refused it: pcr-mismatch")
            for _ in range(2):
                await watched.ask("report_gateway_refused", peer="web", reason="x\ny")
            assert watched.monitor.last_gateway_restart == r"web refused it: x\ny"
            with pytest.raises(HostError) as refused:
                await watched.ask("report_gateway_refused", peer="web", reason="pcr-mismatch")
            assert refused.value.code == "budget-used-up"
            await watched.ask("restart_gateway", reset_tpm=True)  # an operator still may
            assert watched.monitor.gateway_starts == 5

    asyncio.run(story())


def test_what_an_operator_switched_off_stays_off_until_he_starts_it() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            await watched.ask("stop_machine", name="web")
            assert watched.pids("web") == {}
            with pytest.raises(HostError) as refused:  # the gateway finds it silent, and wants it back
                await watched.ask("restart_peer", peer="web", reason="no-answer")
            assert refused.value.code == "kept-off"
            assert watched.pids("web") == {}
            await watched.ask("start_machine", name="web")
            assert list(watched.pids("web")) == ["agent-web"]
            await watched.ask("restart_peer", peer="web", reason="no-answer")  # as ever

    asyncio.run(story())


def test_a_guest_that_is_not_heard_is_restarted_then_switched_off_until_an_operator_starts_it() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            newcomer = watched.monitor.newcomers["web"] = Newcomer(patience_s=0.3, restarts=1)
            first = watched.pids("web")
            newcomer.started(time.monotonic())
            await watched.until(lambda: watched.pids("web") not in ({}, first))
            await watched.until(lambda: watched.pids("web") == {})
            with pytest.raises(HostError) as refused:
                await watched.ask("restart_peer", peer="web", reason="no-answer")
            assert refused.value.code == "kept-off"
            assert "its agent was not heard" in refused.value.message
            assert watched.pids("db")
            newcomer.patience_s = 5.0
            await watched.ask("start_machine", name="web")
            watched.monitor._alive("web", True)
            assert list(watched.pids("web")) == ["agent-web"]

    asyncio.run(story())


def test_a_gateway_that_an_operator_switched_off_is_not_revived() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            await watched.ask("stop_machine", name=GATEWAY)
            for _ in range(GATEWAY_RESTARTS + 1):  # nor does that use up what restarts it later
                with pytest.raises(HostError) as refused:
                    await watched.ask("report_gateway_refused", peer="web", reason="no-answer")
                assert refused.value.code == "kept-off"
            await asyncio.sleep(2.5)  # a gateway that died is back by then
            assert watched.pids(GATEWAY) == {}
            await watched.ask("start_machine", name=GATEWAY)
            assert set(watched.pids(GATEWAY)) == {FIRST, SECOND}
            os.kill(watched.pids(GATEWAY)[FIRST], signal.SIGKILL)
            await watched.until(lambda: watched.monitor.gateway_starts == 3)

    asyncio.run(story())


def test_rejects_a_start_of_what_runs() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            for name in ("web", GATEWAY):
                with pytest.raises(HostError) as refused:
                    await watched.ask("start_machine", name=name)
                assert refused.value.code == "already-running"

    asyncio.run(story())


def test_namespaces_are_no_virtual_machines() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            assert (await watched.ask("list_vms"))["vms"] == []
            with pytest.raises(HostError) as refused:
                await watched.ask("vm_evidence", name="web")
            assert refused.value.code == "not-a-vm"

    asyncio.run(story())


def test_a_program_that_does_not_start_is_reported_and_can_be_tried_again() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            broken(watched.lab, "agent-web").touch()
            with pytest.raises(HostError, match="agent-web did not come up"):
                await watched.ask("restart_peer", peer="web")
            assert watched.pids("web") == {}
            broken(watched.lab, "agent-web").unlink()
            await watched.ask("restart_peer", peer="web")
            assert list(watched.pids("web")) == ["agent-web"]
            broken(watched.lab, SECOND).touch()
            os.kill(watched.pids(GATEWAY)[SECOND], signal.SIGKILL)
            await asyncio.sleep(2.5)  # at least one restart fails
            assert watched.monitor.gateway_starts == 1
            broken(watched.lab, SECOND).unlink()
            await watched.until(lambda: watched.monitor.gateway_starts == 2)

    asyncio.run(story())


def test_a_tpm_whose_state_is_gone_bad_is_an_answer_not_a_hangup() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            state = watched.lab.state_dir / "tpm" / "web"
            for file in state.iterdir():
                file.write_bytes(b"no TPM state")
            with pytest.raises(HostError) as failed:
                await watched.ask("restart_peer", peer="web")
            assert failed.value.code != "away"
            assert (await watched.ask("status"))["peers"]

    asyncio.run(story())


def test_a_killed_tpm_comes_back_with_its_guest() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            for pid in await _in(watched.lab.peer_namespace("web")):
                os.kill(int(pid), signal.SIGKILL)
            await watched.ask("restart_peer", peer="web")
            assert watched.pcr("web", 10) == CLEAN

    asyncio.run(story())


@pytest.mark.parametrize("delay_s", [0.0, 0.05, 0.2, 0.5])
def test_stopping_amid_restarts_leaves_no_process(delay_s: float) -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            asked = [
                asyncio.create_task(watched.ask("restart_peer", peer="web")),
                asyncio.create_task(watched.ask("restart_peer", peer="web")),
                asyncio.create_task(watched.ask("restart_gateway", reset_tpm=True)),
            ]
            await asyncio.sleep(delay_s)
            await watched.monitor.stop()
            answers = await asyncio.gather(*asked, return_exceptions=True)
            assert inhabitants(watched.lab) == []
            refusals = [one for one in answers if not isinstance(one, dict)]
            assert [repr(one) for one in refusals if getattr(one, "code", "") != "stopping"] == []
            with pytest.raises(HostError, match="ending everything"):
                await watched.ask("restart_peer", peer="db")

    asyncio.run(story())


def test_rejects_a_guest_nobody_knows() -> None:
    async def story() -> None:
        async with watched_monitor() as watched:
            for op in ("restart_peer", "report_gateway_refused"):
                reason = {"reason": "x"}
                with pytest.raises(HostError) as refused:
                    await watched.ask(op, peer="nobody", **reason)
                assert refused.value.code == "unknown-peer"
            for op in ("start_machine", "stop_machine", "vm_evidence"):
                with pytest.raises(HostError) as refused:
                    await watched.ask(op, name="nobody")
                assert refused.value.code == "unknown-peer"
            assert watched.monitor.gateway_starts == 1

    asyncio.run(story())
