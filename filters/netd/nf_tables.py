"""Write and read nf_tables messages (linux/netfilter/nf_tables.h): batches, elements, rules. Pure: no I/O."""

import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from filters.netd import netlink as nl
from filters.netd.elements import Element
from filters.ruleset.names import TABLE, ChainName, MapName, SetName

NFPROTO_INET: Final = 1
_BATCH_BEGIN: Final = 0x10
_BATCH_END: Final = 0x11


class Nft(IntEnum):
    """nf_tables message types (enum nf_tables_msg_types)."""

    GETTABLE = 1
    GETCHAIN = 4
    NEWRULE = 6
    GETRULE = 7
    GETSET = 10
    NEWSETELEM = 12
    GETSETELEM = 13
    DELSETELEM = 14
    GETGEN = 16
    GETOBJ = 19


_TABLE_NAME = 1  # NFTA_TABLE_NAME
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3  # NFTA_SET_ELEM_LIST_*
_ELEM, _VALUE = 1, 1  # NFTA_LIST_ELEM, NFTA_DATA_VALUE
_KEY, _DATA, _FLAGS, _TIMEOUT, _EXPIRATION, _KEY_END = 1, 2, 3, 4, 5, 10  # NFTA_SET_ELEM_*
_RULE_TABLE, _RULE_CHAIN, _RULE_EXPRESSIONS = 1, 2, 4  # NFTA_RULE_*
_EXPR_NAME, _EXPR_DATA = 1, 2  # NFTA_EXPR_*
_TARGET_NAME, _TARGET_REV, _TARGET_INFO = 1, 2, 3  # NFTA_TARGET_*
_OBJ_TABLE, _OBJ_NAME, _OBJ_TYPE, _OBJ_DATA = 1, 2, 3, 4  # NFTA_OBJ_*
_OBJECT_COUNTER, _COUNTER_PACKETS = 1, 2  # NFT_OBJECT_COUNTER, NFTA_COUNTER_PACKETS
_GEN_ID = 1  # NFTA_GEN_ID
_PER_MESSAGE: Final = 256  # elements: an attribute's length is 16 bits
_NFQUEUE_REVISION = 3
_NFQ_INFO = struct.Struct("=HHH2x")  # struct xt_NFQ_info_v3: number, total, flags (0: no bypass)


class Op(IntEnum):
    """What happens to an element in a batch."""

    ADD = Nft.NEWSETELEM
    DELETE = Nft.DELSETELEM


@dataclass(frozen=True, slots=True)
class Change:
    """One step of a batch."""

    op: Op
    element: Element


@dataclass(frozen=True, slots=True)
class Flush:
    """Remove every element of a set or map."""

    place: SetName | MapName


@dataclass(frozen=True, slots=True)
class KernelElement:
    """An element as the kernel has it; `identity` is all of it but its times."""

    key: bytes
    data: bytes
    remaining_ms: int | None
    identity: bytes


def add(*elements: Element) -> list[Change]:
    """Add elements; where the kernel renews in place, existing ones get the new timeout."""
    return [Change(Op.ADD, element) for element in elements]


def remove(*elements: Element) -> list[Change]:
    """Remove elements whether present or not: one that just expired must not fail the whole batch.

    Adding first makes the deletion certain to find something. Data and timeout must be valid for the set.
    """
    return [Change(op, element) for element in elements for op in (Op.ADD, Op.DELETE)]


def replace(*elements: Element) -> list[Change]:
    """Give elements a new timeout on kernels that cannot renew in place: gone and back in one batch."""
    return [Change(op, element) for element in elements for op in (Op.ADD, Op.DELETE, Op.ADD)]


def batch(steps: Sequence[Change | Flush], sequence: int) -> tuple[bytes, int]:
    """Write a batch; the answer to its last step (the returned sequence number) acknowledges all of it.

    Consecutive changes of one kind in one set share a message.
    """
    parts = [_batch_edge(_BATCH_BEGIN, sequence)]
    for kind, place, elements in _runs(steps):
        sequence += 1
        parts.append(_elements_message(kind, place, elements, sequence))
    parts[-1] = _with_ack(parts[-1])
    parts.append(_batch_edge(_BATCH_END, sequence + 1))
    return b"".join(parts), sequence


def queue_rule_batch(chain: ChainName, queue: int, sequence: int) -> tuple[bytes, int]:
    """Write the batch that puts an xt NFQUEUE target at the head of a queue's chain, no bypass."""
    target = nl.nested(
        _EXPR_DATA,
        nl.text(_TARGET_NAME, "NFQUEUE"),
        nl.u32(_TARGET_REV, _NFQUEUE_REVISION),
        nl.attribute(_TARGET_INFO, _NFQ_INFO.pack(queue, 1, 0)),
    )
    payload = (
        nl.text(_RULE_TABLE, TABLE)
        + nl.text(_RULE_CHAIN, chain.value)
        + nl.nested(_RULE_EXPRESSIONS, nl.nested(_ELEM, nl.text(_EXPR_NAME, "target"), target))
    )
    flags = nl.NLM_F_CREATE | nl.NLM_F_ACK
    rule = nl.nf_message(
        nl.Subsystem.NFTABLES, Nft.NEWRULE, flags, sequence + 1, payload, family=NFPROTO_INET
    )
    edges = _batch_edge(_BATCH_BEGIN, sequence), _batch_edge(_BATCH_END, sequence + 2)
    return edges[0] + rule + edges[1], sequence + 1


def get_generation(sequence: int) -> bytes:
    """Ask for the ruleset's generation."""
    return nl.nf_message(nl.Subsystem.NFTABLES, Nft.GETGEN, nl.NLM_F_ACK, sequence, b"")


def read_generation(payload: bytes) -> int:
    """Read the answer to `get_generation`."""
    return int.from_bytes(nl.attribute_map(payload, nl.NFGEN_LENGTH)[_GEN_ID], "big")


def dump_objects(kind: Nft, sequence: int) -> bytes:
    """Ask for all tables, chains, rules or sets of the inet family (the reader picks those of our table)."""
    return nl.nf_message(nl.Subsystem.NFTABLES, kind, nl.NLM_F_DUMP, sequence, b"", family=NFPROTO_INET)


def dump_tables(sequence: int) -> bytes:
    """Ask for all tables of all families."""
    return nl.nf_message(nl.Subsystem.NFTABLES, Nft.GETTABLE, nl.NLM_F_DUMP, sequence, b"")


def read_table(payload: bytes) -> tuple[int, str]:
    """Read one table as (family, name)."""
    name = nl.attribute_map(payload, nl.NFGEN_LENGTH)[_TABLE_NAME]
    return payload[0], name.rstrip(b"\0").decode(errors="replace")


def dump_elements(place: SetName | MapName, sequence: int) -> bytes:
    """Ask for all elements of a set or map."""
    return nl.nf_message(
        nl.Subsystem.NFTABLES, Nft.GETSETELEM, nl.NLM_F_DUMP, sequence, _place(place), family=NFPROTO_INET
    )


def read_elements(payload: bytes) -> list[KernelElement]:
    """Read one message of an element dump."""
    listed = nl.attribute_map(payload, nl.NFGEN_LENGTH).get(_LIST_ELEMENTS, b"")
    return [_read_element(nl.attribute_map(raw)) for _, raw in nl.attributes(listed)]


def dump_counters(sequence: int) -> bytes:
    """Ask for the named counters of our table."""
    payload = nl.text(_OBJ_TABLE, TABLE) + nl.u32(_OBJ_TYPE, _OBJECT_COUNTER)
    return nl.nf_message(
        nl.Subsystem.NFTABLES, Nft.GETOBJ, nl.NLM_F_DUMP, sequence, payload, family=NFPROTO_INET
    )


def read_counter(payload: bytes) -> tuple[str, int]:
    """Read one counter as (name, packets)."""
    found = nl.attribute_map(payload, nl.NFGEN_LENGTH)
    packets = nl.attribute_map(found[_OBJ_DATA])[_COUNTER_PACKETS]
    return found[_OBJ_NAME].rstrip(b"\0").decode(errors="replace"), int.from_bytes(packets, "big")


def _batch_edge(kind: int, sequence: int) -> bytes:
    header = struct.pack("!BBH", socket.AF_UNSPEC, 0, nl.Subsystem.NFTABLES)
    return nl.message(kind, nl.NLM_F_REQUEST, sequence, header)


_Run = tuple[int, SetName | MapName, list[Element]]


def _runs(steps: Iterable[Change | Flush]) -> list[_Run]:
    runs: list[_Run] = []
    for step in steps:
        if isinstance(step, Flush):
            runs.append((Nft.DELSETELEM, step.place, []))
            continue
        last = runs[-1] if runs else None
        if last and 0 < len(last[2]) < _PER_MESSAGE and last[:2] == (step.op, step.element.place):
            last[2].append(step.element)
        else:
            runs.append((step.op, step.element.place, [step.element]))
    return runs


def _elements_message(kind: int, place: SetName | MapName, elements: list[Element], sequence: int) -> bytes:
    payload = _place(place)
    if elements:  # a deletion without a list removes all
        payload += nl.nested(_LIST_ELEMENTS, *(_element(one, kind) for one in elements))
    flags = nl.NLM_F_CREATE if kind == Nft.NEWSETELEM else 0
    return nl.nf_message(nl.Subsystem.NFTABLES, kind, flags, sequence, payload, family=NFPROTO_INET)


def _place(place: SetName | MapName) -> bytes:
    return nl.text(_LIST_TABLE, TABLE) + nl.text(_LIST_SET, place.value)


def _element(element: Element, kind: int) -> bytes:
    parts = [nl.nested(_KEY, nl.attribute(_VALUE, element.key))]
    if kind == Nft.NEWSETELEM:
        if element.data is not None:
            parts.append(nl.nested(_DATA, nl.attribute(_VALUE, element.data)))
        if element.timeout_ms is not None:
            # without an expiration a kernel that updates in place keeps the old one
            parts.append(nl.u64(_TIMEOUT, element.timeout_ms))
            parts.append(nl.u64(_EXPIRATION, element.timeout_ms))
    return nl.nested(_ELEM, *parts)


def _read_element(found: dict[int, bytes]) -> KernelElement:
    get = found.get
    key, end, data, flags = get(_KEY, b""), get(_KEY_END, b""), get(_DATA, b""), get(_FLAGS, b"")
    expiration = get(_EXPIRATION)
    return KernelElement(
        _value(key),
        _value(data),
        None if expiration is None else int.from_bytes(expiration, "big"),
        b"|".join((key, end, data, flags)),
    )


def _value(raw: bytes) -> bytes:
    return nl.attribute_map(raw).get(_VALUE, b"") if raw else b""


def _with_ack(raw: bytes) -> bytes:
    length, kind, flags, sequence, port = struct.unpack_from("=IHHII", raw)
    return struct.pack("=IHHII", length, kind, flags | nl.NLM_F_ACK, sequence, port) + raw[16:]
