"""Batches: every leaf proves itself and nothing else."""

import hashlib
import os

import pytest

from authn import merkle


def _recursive(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return hashlib.sha256(b"\1" + _recursive(leaves[:split]) + _recursive(leaves[split:])).digest()


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 100, 1023])
def test_every_leaf_proves_itself_and_nothing_else(count: int) -> None:
    leaves = [os.urandom(32) for _ in range(count)]
    tree = merkle.Tree(leaves)
    root = tree.root
    assert root == _recursive(leaves)
    for index in range(count):
        path = tree.path(index)
        assert merkle.root_of_path(leaves[index], index, count, path) == root
        assert merkle.root_of_path(os.urandom(32), index, count, path) != root


def _of(count: int, index: int) -> tuple[bytes, bytes, tuple[bytes, ...]]:
    leaves = [os.urandom(32) for _ in range(count)]
    return leaves[index], merkle.Tree(leaves).root, merkle.Tree(leaves).path(index)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 100])
def test_rejects_another_leafs_index(count: int) -> None:
    for index in range(count):
        leaf, root, path = _of(count, index)
        for foreign in {(index + 1) % count, 0, count - 1} - {index}:
            assert merkle.root_of_path(leaf, foreign, count, path) != root


@pytest.mark.parametrize(("index", "size"), [(-1, 1), (1, 1), (5, 5), (0, 0), (0, merkle.MAX_LEAVES + 1)])
def test_rejects_foreign_merkle_index_or_size(index: int, size: int) -> None:
    """Outside of any batch, also with a path of the length that such a batch would have."""
    for length in range(12):
        assert merkle.root_of_path(bytes(32), index, size, (bytes(32),) * length) is None


def test_rejects_a_path_that_is_too_short() -> None:
    """Else the root of a subtree would pass for the root of the batch."""
    leaf, _, path = _of(8, 3)
    for length in range(len(path)):
        assert merkle.root_of_path(leaf, 3, 8, path[:length]) is None


def test_rejects_a_path_that_is_too_long() -> None:
    leaf, _, path = _of(8, 3)
    assert merkle.root_of_path(leaf, 3, 8, (*path, bytes(32))) is None


def test_a_node_is_no_leaf() -> None:
    """RFC 6962, 2.1: leaves and nodes are hashed with different prefixes, so that one can't stand for the other."""
    leaves = [os.urandom(32) for _ in range(2)]
    inner = b"".join(merkle.Tree(leaves).path(1)) + b"".join(merkle.Tree(leaves).path(0))
    assert merkle.Tree([inner]).root != merkle.Tree(leaves).root
