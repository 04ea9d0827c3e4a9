"""What the platform is for, with real machines: the same lab for all of it, in this order."""

from pathlib import Path

import pytest

from filters.ruleset.names import HANDED_BIT
from tests.vm.conftest import BOOT_S, VmLab, predicted
from vmhost.image.references import PCRS
from vmhost.monitor.client import ask
from vmhost.names import GATEWAY

pytestmark = [pytest.mark.vm, pytest.mark.timeout(900)]


@pytest.mark.parametrize(("machine", "image"), [(GATEWAY, "gateway"), ("web", "guest"), ("db", "guest")])
def test_predicted_pcrs_are_the_booted_ones(vms: VmLab, machine: str, image: str) -> None:
    expected = predicted(image)
    assert vms.booted_pcrs(machine, PCRS) == {index: expected[index] for index in PCRS}


def test_nothing_passes_without_a_lease_and_a_lease_lets_it_pass(vms: VmLab) -> None:
    vms.inside("db", "while :; do echo from db | nc -l -p 5432; done >/dev/null 2>&1 &")
    refused = vms.exec("web", "timeout", "10", "nc", "10.77.0.3", "5432")
    assert refused.returncode != 0
    assert b"from db" not in refused.stdout
    passed = vms.exec("web", "timeout", "20", "quotegate-agent", "connect", "db", "tcp/5432")
    assert b"from db" in passed.stdout, passed.stderr


def test_a_command_gets_its_input_and_its_complaints_come_apart(vms: VmLab) -> None:
    data = bytes(range(256)) * 5
    done = vms.exec("web", "sh", "-c", "cat; echo complaint >&2; exit 3", data=data)
    assert (done.returncode, done.stdout, done.stderr) == (3, data, b"complaint\n")


def test_the_gateway_queues_natively(vms: VmLab) -> None:
    assert "queue " in vms.inside(GATEWAY, "nft list chain inet quotegate hold_queue")


def test_the_gateways_services_have_no_more_rights_than_they_need(vms: VmLab) -> None:
    status = vms.inside(
        GATEWAY,
        "for p in netd tpmd quotegated inspector hostlink; do "
        "grep -hE 'Uid|CapEff|NoNewPrivs|Seccomp:' /proc/$(systemctl show -p MainPID --value $p)/status; done",
    )
    uids = [line.split()[1] for line in status.splitlines() if line.startswith("Uid")]
    rights = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff")]
    assert uids == ["64101", "64102", "64103", "64104", "64105"]
    assert rights == [1 << 12, 0, 0, 0, 0]  # CAP_NET_ADMIN for netd alone
    assert status.count("NoNewPrivs:\t1") == 5
    assert status.count("Seccomp:\t2") == 5


def test_the_inspector_is_confined_by_all_there_is(vms: VmLab) -> None:
    vms.until(lambda: vms.json("status")["inspectors"] == 1)
    said = vms.cli("status").stdout.decode()
    assert "confined by landlock" in said
    assert "seccomp" in said


def test_nobody_can_write_to_the_gateways_root_or_load_a_module(vms: VmLab) -> None:
    said = vms.inside(
        GATEWAY, "cat /proc/sys/kernel/modules_disabled; touch /usr/x 2>&1; mount | grep ' / '; true"
    )
    assert said.startswith("1\n")
    assert "Read-only file system" in said
    assert "erofs" in said


def test_the_gateway_needs_little_memory(vms: VmLab) -> None:
    used = int(vms.inside(GATEWAY, "free -m | awk '/Mem/ {print $3}'"))
    assert used <= 256


def test_a_foreign_program_cuts_the_guest_and_a_restart_heals_it(vms: VmLab) -> None:
    before, after = vms.status_of("web")["pids"]["qemu"], vms.last_sequence()
    vms.cli("lab", "tamper", "web")
    vms.until(lambda: any(one[:2] == ("web", "unknown-file") for one in vms.failures(after)), 15)
    vms.until(
        lambda: vms.peer("web")["state"] == "trusted" and vms.status_of("web")["pids"]["qemu"] != before
    )
    assert vms.peer("db")["state"] == "trusted"


def test_the_gateways_state_survives_its_restart(vms: VmLab) -> None:
    before = vms.last_sequence()
    assert "/dev/mapper/state on /var/lib type ext4" in vms.inside(GATEWAY, "mount")
    ask(vms.lab, "restart_gateway", timeout_s=BOOT_S, reset_tpm=True)
    vms.until(vms.all_trusted)
    assert vms.last_sequence() > before
    assert vms.api.get("/v1/status")["authority"] == "valid"


DEEP = """
[[rule]]
id = "deep"
from = "web"
to = "db"
service = "tcp/9091"
action = "allow"
open = "on-demand"
lease = "1h"
inspect = { detectors = ["secrets"], offload_after = "64KiB" }
"""


def test_behind_its_depth_a_connection_goes_back_to_the_gateways_kernel(vms: VmLab, tmp_path: Path) -> None:
    deep = tmp_path / "deep.toml"
    deep.write_text(vms.spec.policy_text + DEEP)
    vms.cli("policy", "apply", str(deep))
    vms.inside("db", "(sleep 100 | nc -l -p 9091 > /tmp/got) >/dev/null 2>&1 &")
    vms.inside(
        "web",
        "head -c 400000 /dev/urandom > /tmp/one; head -c 3000000 /dev/urandom > /tmp/two; mkfifo /tmp/more; "
        "((cat /tmp/one; read go < /tmp/more; cat /tmp/two; sleep 30) | nc 10.77.0.3 9091) >/dev/null 2>&1 &",
    )

    def marks() -> list[int]:
        listed = vms.inside(GATEWAY, "grep 'dport=9091 ' /proc/net/nf_conntrack; true")
        return [int(word[5:]) for word in listed.split() if word.startswith("mark=")]

    vms.until(lambda: [bool(mark & HANDED_BIT) for mark in marks()] == [True], 60)
    vms.inside("web", "echo go > /tmp/more")
    expected = vms.inside("web", "cat /tmp/one /tmp/two | sha256sum")
    vms.until(lambda: vms.inside("db", "sha256sum < /tmp/got") == expected, 60)
