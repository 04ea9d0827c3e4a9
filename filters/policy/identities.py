"""Parse profiles (what a quote must prove) and peers (who stands where)."""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address

from filters.policy.model import OnFail, Peer, ProfileSpec
from filters.policy.services import parse_duration_ms, parse_label
from filters.policy.table import Table
from filters.suggestion import suggestion

_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_EK = re.compile(r"sha256:[0-9a-f]{64}")
_PCR = re.compile(r"[0-9]|1[0-9]|2[0-3]")
RESETTABLE = (16, 23)


def parse_profile(table: Table) -> ProfileSpec:
    """Read one `[profile.NAME]`; raises PolicyError."""
    banks = table.table("pcrs")
    pcrs = dict(_pcr(banks, index, name) for index, name in banks.table("sha256").items())
    banks.finish()
    if not pcrs:
        raise table.error(
            "bad-value", "pcrs", f"{table.name}: `pcrs` selects nothing: nothing would be proved"
        )
    layers = tuple(dict.fromkeys(table.parse_all("layers", parse_label, ["tpm"])))
    if not layers:
        raise table.error("bad-value", "layers", f"{table.name}: `layers` demands no evidence at all")
    age = table.parse("max_quote_age", parse_duration_ms) if table.has("max_quote_age") else None
    on_fail = _on_fail(table.table("on_fail")) if table.has("on_fail") else OnFail()
    table.take("on_fail", dict, {})
    table.finish()
    return ProfileSpec(table.name.removeprefix("profile."), pcrs, age, on_fail, layers)


def _pcr(table: Table, index: str, name: object) -> tuple[int, str]:
    if not _PCR.fullmatch(index) or int(index) in RESETTABLE:
        raise table.error(
            "bad-pcr",
            index,
            f"{table.name}: {index[:32]!r} is no PCR for a profile; expected 0 to 22 (16 and 23 can be reset by the guest)",
        )
    kinds = ("ref:", "ima:") if index == "10" else ("ref:",)
    if not isinstance(name, str) or not name.startswith(kinds) or len(name) < 5:
        more = ', or "ima:files-web" for the files of an IMA list' if index == "10" else ""
        raise table.error(
            "bad-reference", index, f'{table.name}: PCR {index} needs a reference such as "ref:uki-web"{more}'
        )
    return int(index), name.removeprefix("ref:")


def _on_fail(table: Table) -> OnFail:
    usual = OnFail()
    on_fail = OnFail(
        table.choice("peer", ("restart", "quarantine", "none"), usual.action),
        table.take("max_restarts", int, usual.max_restarts),
        table.parse("window", parse_duration_ms) / 1000 if table.has("window") else usual.window_s,
        table.choice("then", ("quarantine", "none"), usual.then),
    )
    if on_fail.max_restarts < 0:
        raise table.error("bad-value", "max_restarts", f"{table.name}: `max_restarts` must not be negative")
    table.finish()
    return on_fail


def parse_peer(name: str, table: Table, profiles: Mapping[str, ProfileSpec]) -> Peer:
    """Read one `[peer.NAME]`; raises PolicyError, also for a profile that does not exist."""
    match = table.table("match")
    ek = match.parse("ek", _ek) if match.has("ek") else None
    port = match.parse("port", parse_label)
    mac, ip = match.parse("mac", _mac), match.parse("ip", _ip)
    match.finish()
    profile = table.take("profile", str)
    if profile not in profiles:
        hint = suggestion(profile, profiles)
        raise table.error(
            "unknown-profile", "profile", f"{table.name}: there is no profile {profile!r}{hint}"
        )
    tags = frozenset(table.parse_all("tags", parse_label, []))
    table.finish()
    return Peer(name, port, mac, ip, ek, profile, tags)


def _mac(text: str) -> str:
    if not _MAC.fullmatch(text):
        raise ValueError(f"expected a MAC such as 52:54:00:aa:00:03 in lower case; got {text!r}")
    if int(text[:2], 16) & 1 or text == "00:00:00:00:00:00":
        raise ValueError(f"expected the address of one card, not a group or nobody; got {text!r}")
    return text


def _ip(text: str) -> IPv4Address:
    address = IPv4Address(text)
    if address.is_multicast or address.is_loopback or address.is_unspecified or address.is_reserved:
        raise ValueError(f"expected the address of one machine; got {text!r}")
    return address


def _ek(text: str) -> str:
    if not _EK.fullmatch(text):
        raise ValueError(f"expected sha256: and 64 hex digits; got {text!r}")
    return text
