"""Batches: every leaf proves itself and nothing else."""

import os

import pytest

from authn import merkle


@pytest.mark.parametrize("count", [1, 2, 3, 5, 8, 13, 100])
def test_every_leaf_proves_itself_and_nothing_else(count: int) -> None:
    leaves = [os.urandom(32) for _ in range(count)]
    root = merkle.root(leaves)
    for index in range(count):
        path = merkle.path(leaves, index)
        assert merkle.root_of_path(leaves[index], index, count, path) == root
        assert merkle.root_of_path(os.urandom(32), index, count, path) != root
        assert merkle.root_of_path(leaves[index], index, count, (*path, bytes(32))) is None
        for foreign in {(index + 1) % count, 0, count - 1} - {index}:
            assert merkle.root_of_path(leaves[index], foreign, count, path) != root
