"""Hash many leaves into one root and prove that one is below it (RFC 6962, section 2.1)."""

import hashlib
from collections.abc import Sequence

MAX_LEAVES = 1024


def _leaf(data: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + data).digest()


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """The Merkle tree of 1 to 1024 leaves, hashed once: each audit path is then a look-up."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        if not 1 <= len(leaves) <= MAX_LEAVES:
            raise ValueError(f"a batch has 1 to {MAX_LEAVES} leaves, not {len(leaves)}")
        level = [_leaf(leaf) for leaf in leaves]
        self._levels = [level]
        while len(level) > 1:
            pairs = [_node(*level[at : at + 2]) for at in range(0, len(level) - 1, 2)]
            # a node without a sibling stands one level higher: the same tree as the recursive definition's
            level = pairs + level[len(pairs) * 2 :]
            self._levels.append(level)

    @property
    def root(self) -> bytes:
        """The tree's hash."""
        return self._levels[-1][0]

    def path(self, index: int) -> tuple[bytes, ...]:
        """Return the audit path of one leaf, lowest node first."""
        siblings = ((level, (index >> depth) ^ 1) for depth, level in enumerate(self._levels))
        return tuple(level[at] for level, at in siblings if at < len(level))


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
