"""Hash many leaves into one root and prove that one is below it (RFC 6962, section 2.1)."""

import hashlib
from collections.abc import Sequence

MAX_LEAVES = 1024


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _split(count: int) -> int:
    """Return the largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def root(leaves: Sequence[bytes]) -> bytes:
    """Return the Merkle tree hash of 1 to 1024 leaves."""
    if not 1 <= len(leaves) <= MAX_LEAVES:
        raise ValueError(f"a batch has 1 to {MAX_LEAVES} leaves, not {len(leaves)}")
    level = [_leaf(leaf) for leaf in leaves]
    return _fold(level)


def _fold(hashes: Sequence[bytes]) -> bytes:
    if len(hashes) == 1:
        return hashes[0]
    split = _split(len(hashes))
    return _node(_fold(hashes[:split]), _fold(hashes[split:]))


def path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Return the audit path of one leaf, lowest node first."""
    return tuple(_path([_leaf(leaf) for leaf in leaves], index))


def _path(hashes: Sequence[bytes], index: int) -> list[bytes]:
    if len(hashes) == 1:
        return []
    split = _split(len(hashes))
    if index < split:
        return [*_path(hashes[:split], index), _fold(hashes[split:])]
    return [*_path(hashes[split:], index - split), _fold(hashes[:split])]


def root_of_path(leaf: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """Return the root that an audit path leads to, or None when it does not fit index and size.

    RFC 9162 section 2.1.3.2; a path of the wrong length fits nothing.
    """
    if not 0 <= index < size <= MAX_LEAVES:
        return None
    position, last, current = index, size - 1, _leaf(leaf)
    for sibling in proof:
        if last == 0:
            return None
        if position & 1 or position == last:
            current = _node(sibling, current)
            while not position & 1 and position:
                position, last = position >> 1, last >> 1
        else:
            current = _node(current, sibling)
        position, last = position >> 1, last >> 1
    return current if last == 0 else None
