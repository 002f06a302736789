"""Trees in memory, to prove from."""

from collections.abc import Sequence

from audit.merkle import leaf_hash, root_of


class Grown:
    """Every complete subtree over these leaves."""

    def __init__(self, entries: Sequence[bytes]) -> None:
        self.leaves = [leaf_hash(one) for one in entries]

    def hash_at(self, level: int, index: int) -> bytes:
        size = 1 << level
        assert (index + 1) * size <= len(self.leaves), "asked for a subtree that is not complete"
        return root_of(self.leaves[index * size : (index + 1) * size])
