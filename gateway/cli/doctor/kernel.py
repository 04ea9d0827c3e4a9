"""Kernel, tools and bindings: whether this machine can run the packet filter."""

import importlib.util
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from ipaddress import IPv4Address

from filters.confinement.landlock import landlock_abi
from filters.confinement.seccomp import seccomp_is_there
from filters.policy.compiled import compile_policy
from filters.policy.parser import parse_policy
from filters.ruleset.compiler import compile_ruleset
from filters.ruleset.features import Features
from filters.ruleset.sysctls import GATEWAY_SYSCTLS
from gateway.cli.doctor.finding import Finding, bad, ok, skipped, warn

TOOLS = {
    "nft": "nftables", "ip": "iproute2", "setpriv": "util-linux", "nsenter": "util-linux", "swtpm": "swtpm",
    "swtpm_setup": "swtpm-tools",
}  # fmt: skip
BINDINGS = {"nftables": "python3-nftables", "tpm2_pytss": "make setup", "cryptography": "make setup"}
NAMESPACE = ("unshare", "--net", "--")


@dataclass(frozen=True, slots=True)
class KernelFacts:
    """What was found. `ruleset_error` and `missing_sysctls` are None where nobody could look (not root)."""

    missing_tools: tuple[str, ...]
    missing_bindings: tuple[str, ...]
    ruleset_error: str | None
    native_queue: bool | None
    handover: bool | None
    missing_sysctls: tuple[str, ...] | None
    unconfined: tuple[str, ...] = ()


def judge_kernel(facts: KernelFacts) -> list[Finding]:
    """Judge what was found."""
    return [
        _tools(facts),
        _bindings(facts),
        _ruleset(facts),
        _queue(facts),
        _handover(facts),
        _sysctls(facts),
        _confinement(facts),
    ]


def _tools(facts: KernelFacts) -> Finding:
    if not facts.missing_tools:
        return ok("tools", "all programs are there")
    packages = sorted({TOOLS[name] for name in facts.missing_tools})
    return bad("tools", f"missing: {', '.join(facts.missing_tools)}", f"apt-get install {' '.join(packages)}")


def _bindings(facts: KernelFacts) -> Finding:
    if not facts.missing_bindings:
        return ok("bindings", "all Python bindings are there")
    mend = ", ".join(sorted({BINDINGS[name] for name in facts.missing_bindings}))
    return bad("bindings", f"missing: {', '.join(facts.missing_bindings)}", f"install {mend}")


def _ruleset(facts: KernelFacts) -> Finding:
    if facts.ruleset_error is None:
        return skipped("packet filter", "only root can try the ruleset", "run this as root")
    if not facts.ruleset_error:
        return ok("packet filter", "the kernel takes the ruleset")
    return bad(
        "packet filter", f"the kernel refuses the ruleset: {facts.ruleset_error}",
        "use a kernel with nf_tables, nf_conntrack, NFLOG, set time-outs and ranges (Debian 12 or newer)",
    )  # fmt: skip


def _queue(facts: KernelFacts) -> Finding:
    if facts.native_queue is None:
        return skipped("nft queue", "only root can try it", "run this as root")
    if facts.native_queue:
        return ok("nft queue", "the kernel has it")
    return ok("nft queue", "the kernel has none; held packets go by a raw NFQUEUE expression instead")


def _handover(facts: KernelFacts) -> Finding:
    if facts.handover is None:
        return skipped("handover", "only root can try it", "run this as root")
    if facts.handover:
        return ok("handover", "behind a rule's depth connections go back to the kernel whole")
    return ok(
        "handover", "the kernel can't: behind a rule's depth inspectors move the bytes (nft nat, Linux 5.18)"
    )


def _sysctls(facts: KernelFacts) -> Finding:
    if facts.missing_sysctls is None:
        return skipped("sysctls", "only root can look into a namespace of its own", "run this as root")
    if not facts.missing_sysctls:
        return ok("sysctls", "all settings the gateway needs exist")
    return warn(
        "sysctls", f"missing: {', '.join(facts.missing_sysctls)}", "load nf_conntrack: modprobe nf_conntrack"
    )


def _confinement(facts: KernelFacts) -> Finding:
    if not facts.unconfined:
        return ok("confinement", "the kernel confines inspectors by Landlock and seccomp")
    return warn(
        "confinement", f"missing: {', '.join(facts.unconfined)}; inspectors run with less confinement",
        "a kernel with CONFIG_SECURITY_LANDLOCK (lsm=landlock,…) and CONFIG_SECCOMP_FILTER; apt-get install libseccomp2",
    )  # fmt: skip


def probe_kernel() -> KernelFacts:
    """Look; the ruleset is only tried (`nft --check`) in a network namespace of its own."""
    tools = tuple(name for name in TOOLS if not shutil.which(name))
    bindings = tuple(name for name in BINDINGS if importlib.util.find_spec(name) is None)
    unconfined = tuple(
        name
        for name, there in (("Landlock", landlock_abi() > 0), ("seccomp", seccomp_is_there()))
        if not there
    )
    if os.geteuid() != 0 or "nft" in tools:
        return KernelFacts(tools, bindings, None, None, None, None, unconfined)
    features = Features(native_queue=False, timeout_update=True, handover=False)
    plain = _try_ruleset(features)
    native = not plain and not _try_ruleset(replace(features, native_queue=True))
    handover = not plain and not _try_ruleset(replace(features, handover=True))
    return KernelFacts(tools, bindings, plain, native, handover, _probe_sysctls(), unconfined)


def _try_ruleset(features: Features) -> str:
    """Return the kernel's words, empty when it takes the ruleset of an empty policy."""
    compiled = compile_policy(
        parse_policy("schema = 1\n"), interface="lo", gateway_ip=IPv4Address("192.0.2.1"), control_port=7443
    )
    text = compile_ruleset(compiled, features)
    done = _run([*NAMESPACE, "nft", "--check", "-f", "-"], text)
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or ["no reason given"])[0]


def _probe_sysctls() -> tuple[str, ...]:
    names = [path.format(interface="lo") for path, _ in GATEWAY_SYSCTLS]
    code = "for name; do test -e /proc/sys/$name || echo $name; done"
    # a rule that asks conntrack makes its settings appear
    done = _run(
        [
            *NAMESPACE,
            "sh",
            "-c",
            f"nft 'add table ip t; add chain ip t c; add rule ip t c ct state new'; {code}",
            "sh",
            *names,
        ],
        "",
    )
    return tuple(done.stdout.split())


def _run(argv: list[str], text: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(argv, input=text, capture_output=True, text=True, timeout=20, check=False)
