"""Describe our table as the kernel has it, and say how two descriptions differ. Pure.

Only what the compiler decides is described: no handles, use counts, counters or times.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from filters.netd import netlink as nl
from filters.netd.nf_tables import KernelElement, Nft
from filters.ruleset.names import TABLE, SetName

Fingerprint = Mapping[str, frozenset[bytes] | tuple[bytes, ...]]

_TABLE_ATTRIBUTE: Final = 1  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE
_NAME: Final = {
    Nft.GETTABLE: 1,  # NFTA_TABLE_NAME
    Nft.GETCHAIN: 3,  # NFTA_CHAIN_NAME
    Nft.GETRULE: 2,  # NFTA_RULE_CHAIN
    Nft.GETSET: 2,  # NFTA_SET_NAME
}
_KEPT: Final = {
    Nft.GETTABLE: (
        2,
    ),  # NFTA_TABLE_FLAGS: the rules of a dormant table are all there, and asked by no packet
    Nft.GETCHAIN: (4, 5, 7, 10),  # NFTA_CHAIN_HOOK, _POLICY, _TYPE, _FLAGS
    Nft.GETRULE: (4,),  # NFTA_RULE_EXPRESSIONS
    Nft.GETSET: (3, 4, 5, 6, 7, 9, 11),  # NFTA_SET_FLAGS, key and data types and lengths, _DESC, _TIMEOUT
}
_WORD: Final = {
    Nft.GETTABLE: "table",
    Nft.GETCHAIN: "chain",
    Nft.GETRULE: "rules of chain",
    Nft.GETSET: "set",
}
_SHOWN: Final = 8


def describe(
    structure: Mapping[Nft, Iterable[bytes]], elements: Mapping[SetName, Iterable[KernelElement]]
) -> Fingerprint:
    """Build a description from dumps of tables, chains, rules, sets, and of the static sets' elements."""
    found: dict[str, frozenset[bytes] | tuple[bytes, ...]] = {}
    for kind, payloads in structure.items():
        for payload in payloads:
            attributes = nl.attribute_map(payload, nl.NFGEN_LENGTH)
            if attributes.get(_TABLE_ATTRIBUTE, b"").rstrip(b"\0").decode() != TABLE:
                continue
            name = attributes[_NAME[kind]].rstrip(b"\0").decode(errors="replace")
            what = f"{_WORD[kind]} {name}"
            kept = b"".join(bytes([one]) + attributes.get(one, b"") for one in _KEPT[kind])
            found[what] = (*found.get(what, ()), kept)
    for place, members in elements.items():
        found[f"elements of {place}"] = frozenset(member.identity for member in members)
    return found


def differences(expected: Fingerprint, actual: Fingerprint) -> list[str]:
    """Name what is missing, foreign or changed, in stable order; empty when nothing is."""
    if not actual:
        return ["the table is missing"] if expected else []
    words = []
    for what in sorted(expected.keys() | actual.keys()):
        if what not in actual:
            words.append(f"{what} is missing")
        elif what not in expected:
            words.append(f"{what} is foreign")
        elif expected[what] != actual[what]:
            words.append(f"{what} changed")
    return words


def shorten(words: list[str]) -> str:
    """Join differences into one line of bounded length."""
    more = len(words) - _SHOWN
    return "; ".join(words[:_SHOWN]) + (f"; and {more} more" if more > 0 else "")
