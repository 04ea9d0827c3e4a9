"""What a change of a large policy costs: 1,000 peers and 5,000 rules, checked and applied on a live gateway."""

import os
import random
import select
import subprocess
import sys
import time
import tomllib
from ipaddress import IPv4Network
from pathlib import Path

from bench.crowd import connect, start_gateway
from bench.stats import Figure
from gateway.cli.client import ApiClient, api_socket
from gateway.policy.holder import check_text
from vmhost.lab.defaults import make_spec, place
from vmhost.lab.teardown import tear_down
from vmhost.names import Lab
from vmhost.spec import LabSpec

PEERS, RULES, NETWORK = 1000, 5000, IPv4Network("10.72.0.0/21")
PROBE_S = 0.005
READY_S = 60.0


def policy_text(seed: int) -> str:
    """A policy as a large user's: most rules between two peers, some between tags, some mandatory denials."""
    draw = random.Random(seed)
    peers = [place(f"s{number}", NETWORK[number + 10], f"t{number}") for number in range(PEERS)]
    parts = ['schema = 1\n[profile.swarm]\npcrs = { sha256 = { 4 = "ref:swarm" } }\n']
    for number, one in enumerate(peers):
        match = f'match = {{ port = "{one.port}", mac = "{one.mac}", ip = "{one.ip}" }}'
        parts.append(f'[peer.{one.peer}]\n{match}\nprofile = "swarm"\ntags = ["g{number % 50}"]\n')
    for number in range(RULES):
        ends = [
            f"s{draw.randrange(PEERS)}" if draw.random() < 0.9 else f"tag:g{draw.randrange(50)}" for _ in "ab"
        ]
        port, action = draw.randrange(1, 60000), "allow" if draw.random() < 0.9 else "deny"
        tier = 'tier = "mandatory"\n' if draw.random() < 0.05 else ""
        parts.append(
            f'[[rule]]\nid = "r{number}"\nfrom = "{ends[0]}"\nto = "{ends[1]}"\n'
            f'service = "tcp/{port}-{port + draw.randrange(100)}"\naction = "{action}"\n{tier}'
        )
    return "".join(parts)


def measure(rounds: int) -> list[Figure]:
    """Check and apply two large policies in turn; about 4 s a round."""
    texts = [policy_text(seed) for seed in (1, 2)]
    checks, parses = [], []
    for number in range(rounds):
        begun = time.perf_counter()
        tomllib.loads(texts[number % 2])
        middle = time.perf_counter()
        check_text(texts[number % 2], "bench")
        parses.append(middle - begun)
        checks.append(time.perf_counter() - middle)
    blocked, idle, took = _apply(texts, rounds)
    size = f"{PEERS} peers, {RULES} rules, {len(texts[0]) / 1e6:.1f} MB of text"
    return [
        Figure("policy check of a large policy", "s", checks, "tomllib alone, s", parses, 2.0, False, False, size),
        Figure(
            "longest wait for gateway, netd and tpmd while it is applied", "s", blocked, "the same wait while idle, s", idle,
            0.5, False, False, f"{size}; the whole change takes {sorted(took)[len(took) // 2]:.1f} s",
        ),
    ]  # fmt: skip


def _apply(texts: list[str], rounds: int) -> tuple[list[float], list[float], list[float]]:
    lab = Lab(f"bpol{os.getpid() % 10000}")
    spec = _spec(lab)
    tear_down(lab)
    gateway = None
    try:
        connect(spec)
        gateway = start_gateway(spec)
        api = ApiClient(api_socket(lab.name))
        _wait(api)
        blocked, idle, took = [], [], []
        for number in range(rounds):
            idle.append(_probe(spec, 1.0, None)[0])
            wait, seconds = _probe(spec, 0.5, texts[(number + 1) % 2])
            blocked.append(wait)
            took.append(seconds)
        return blocked, idle, took
    finally:
        if gateway is not None:
            gateway.power_off()
        tear_down(lab)


def _spec(lab: Lab) -> LabSpec:
    peers = [place(f"s{number}", NETWORK[number + 10], f"t{number}") for number in range(PEERS)]
    return make_spec(lab, peers, policy_text(3), NETWORK)


def _wait(api: ApiClient) -> None:
    deadline = time.monotonic() + READY_S
    while True:
        try:
            api.get("/v1/health")
            return
        except Exception:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _probe(spec: LabSpec, seconds: float, text: str | None) -> tuple[float, float]:
    """Ask for the gateway's health in another process, without a pause; meanwhile apply `text`.

    Return the longest wait for an answer, and how long the change took.
    """
    argv = [sys.executable, "-m", "bench.policy", str(api_socket(spec.lab.name))]
    probe = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert probe.stdin is not None
    assert probe.stdout is not None
    probe.stdout.readline()
    begun = time.perf_counter()
    if text is not None:
        ApiClient(api_socket(spec.lab.name)).post("/v1/policy/apply", text=text, file="bench.toml")
    took = time.perf_counter() - begun
    time.sleep(seconds)
    probe.stdin.close()
    return float(probe.stdout.readline()), took


def main() -> None:
    """Probe until standard input ends, then print the longest wait."""
    api, longest = ApiClient(Path(sys.argv[1])), 0.0
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], PROBE_S)[0]:
        begun = time.perf_counter()
        api.get("/v1/health")
        longest = max(longest, time.perf_counter() - begun)
    print(longest, flush=True)


if __name__ == "__main__":
    main()
