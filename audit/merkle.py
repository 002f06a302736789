"""The Merkle tree of the log: RFC 6962 hashes and proofs, and proofs of whole ranges.

A tree is read through `Subtrees`: the hash of each complete subtree, by level and index. What is
proved is checked without it, by whoever has the proof and two roots.
"""

import hashlib
from collections.abc import Iterator, Sequence
from typing import Protocol

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()


class ProofInvalid(Exception):
    """The proof does not show what it is said to show."""


class Subtrees(Protocol):
    def hash_at(self, level: int, index: int) -> bytes:
        """The root over leaves [index * 2**level, (index + 1) * 2**level), which all exist."""


def leaf_hash(entry: bytes) -> bytes:
    """RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """RFC 6962 section 2.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_of(hashes: Sequence[bytes]) -> bytes:
    """The root over these leaf hashes."""
    if not hashes:
        return EMPTY_ROOT
    row = list(hashes)
    # The tree is left-heavy: pairing from the left, with a rest that rises alone, is the same.
    while len(row) > 1:
        paired = [node_hash(row[n], row[n + 1]) for n in range(0, len(row) - 1, 2)]
        row = paired + row[len(row) & ~1 :]
    return row[0]


class Growing:
    """A tree that is read once, leaf by leaf: the roots of the complete subtrees so far."""

    def __init__(self) -> None:
        self.size = 0
        self._complete: list[bytes] = []

    def add(self, leaf: bytes) -> None:
        found, size = leaf, self.size
        while size & 1:
            found, size = node_hash(self._complete.pop(), found), size >> 1
        self._complete.append(found)
        self.size += 1

    def root(self) -> bytes:
        if not self._complete:
            return EMPTY_ROOT
        *rest, found = self._complete
        for left in reversed(rest):
            found = node_hash(left, found)
        return found


# -- proving -------------------------------------------------------------------------------------


def root(tree: Subtrees, size: int) -> bytes:
    return _root(tree, 0, size) if size else EMPTY_ROOT


def inclusion_proof(tree: Subtrees, index: int, size: int) -> list[bytes]:
    """RFC 6962 section 2.1.1: that the leaf is at this index of the tree of this size."""
    _ensure(0 <= index < size, "The index lies outside the tree.")
    return _path(tree, index, 0, size)


def consistency_proof(tree: Subtrees, old_size: int, size: int) -> list[bytes]:
    """RFC 6962 section 2.1.2: that the tree of the old size is the beginning of this one."""
    _ensure(0 < old_size <= size, "The old tree is empty or larger.")
    return [] if old_size == size else _subproof(tree, old_size, 0, size, is_whole=True)


def range_proof(tree: Subtrees, start: int, end: int, size: int) -> list[bytes]:
    """Return the hashes left and right of the leaves [start, end), in the order of the recursion.

    With the leaf hashes of the range it gives the root: none of the range is missing or added.
    """
    _ensure(0 <= start < end <= size, "The range lies outside the tree.")
    return list(_outside(tree, start, end, 0, size))


def _root(tree: Subtrees, low: int, high: int) -> bytes:
    size = high - low
    if size & (size - 1) == 0:
        return tree.hash_at(size.bit_length() - 1, low // size)
    middle = low + _split(size)
    return node_hash(_root(tree, low, middle), _root(tree, middle, high))


def _path(tree: Subtrees, index: int, low: int, high: int) -> list[bytes]:
    if high - low == 1:
        return []
    middle = low + _split(high - low)
    if index < middle:
        return [*_path(tree, index, low, middle), _root(tree, middle, high)]
    return [*_path(tree, index, middle, high), _root(tree, low, middle)]


def _subproof(tree: Subtrees, size: int, low: int, high: int, *, is_whole: bool) -> list[bytes]:
    if size == high:
        return [] if is_whole else [_root(tree, low, high)]
    middle = low + _split(high - low)
    if size <= middle:
        left = _subproof(tree, size, low, middle, is_whole=is_whole)
        return [*left, _root(tree, middle, high)]
    right = _subproof(tree, size, middle, high, is_whole=False)
    return [*right, _root(tree, low, middle)]


def _outside(tree: Subtrees, start: int, end: int, low: int, high: int) -> Iterator[bytes]:
    if end <= low or high <= start:
        yield _root(tree, low, high)
    elif not (start <= low and high <= end):
        middle = low + _split(high - low)
        yield from _outside(tree, start, end, low, middle)
        yield from _outside(tree, start, end, middle, high)


def _split(size: int) -> int:
    """The largest power of two below the size."""
    return 1 << ((size - 1).bit_length() - 1)


# -- checking ------------------------------------------------------------------------------------


def check_inclusion(
    leaf: bytes, index: int, size: int, root_hash: bytes, *, proof: Sequence[bytes]
) -> None:
    """RFC 9162 section 2.1.3.2. Raises ProofInvalid."""
    _ensure(0 <= index < size, "The index lies outside the tree.")
    _ensure_hashes(leaf, root_hash, *proof)
    place, last, found = index, size - 1, leaf
    for step in proof:
        _ensure(last > 0, "The proof is too long.")
        if place & 1 or place == last:
            found = node_hash(step, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    _ensure(last == 0, "The proof is too short.")
    _ensure(found == root_hash, "The proof leads to another root.")


def check_consistency(
    old_size: int, size: int, old_root: bytes, root_hash: bytes, *, proof: Sequence[bytes]
) -> None:
    """RFC 9162 section 2.1.4.2. Raises ProofInvalid; also if the old tree is empty."""
    _ensure(0 < old_size <= size, "The old tree is empty or larger.")
    _ensure_hashes(*proof)
    if old_size == size:
        _ensure(not proof and old_root == root_hash, "Trees of one size differ.")
        return
    steps = [old_root, *proof] if old_size & (old_size - 1) == 0 else list(proof)
    _ensure(bool(steps), "The proof is too short.")
    place, last = old_size - 1, size - 1
    while place & 1:
        place, last = place >> 1, last >> 1
    found_old = found = steps[0]
    for step in steps[1:]:
        _ensure(last > 0, "The proof is too long.")
        if place & 1 or place == last:
            found_old, found = node_hash(step, found_old), node_hash(step, found)
            while not place & 1 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    _ensure(last == 0, "The proof is too short.")
    _ensure(found_old == old_root, "The proof leads to another old root.")
    _ensure(found == root_hash, "The proof leads to another root.")


def check_range(
    leaves: Sequence[bytes], start: int, size: int, root_hash: bytes, *, proof: Sequence[bytes]
) -> None:
    """Check that these are the leaf hashes [start, start + len(leaves)). Raises ProofInvalid."""
    end = start + len(leaves)
    _ensure(0 <= start < end <= size, "The range lies outside the tree.")
    _ensure_hashes(root_hash, *leaves, *proof)
    given = iter(proof)
    found = _recomputed(leaves, given, start, 0, size)
    _ensure(next(given, None) is None, "The proof is too long.")
    _ensure(found == root_hash, "The proof leads to another root.")


def _recomputed(
    leaves: Sequence[bytes], given: Iterator[bytes], start: int, low: int, high: int
) -> bytes:
    end = start + len(leaves)
    if end <= low or high <= start:
        step = next(given, None)
        if step is None:
            message = "The proof is too short."
            raise ProofInvalid(message)
        return step
    if start <= low and high <= end:
        return root_of(leaves[low - start : high - start])
    middle = low + _split(high - low)
    left = _recomputed(leaves, given, start, low, middle)
    return node_hash(left, _recomputed(leaves, given, start, middle, high))


def _ensure_hashes(*values: bytes) -> None:
    _ensure(all(len(one) == HASH_BYTES for one in values), "A hash has not 32 bytes.")


def _ensure(holds: bool, otherwise: str) -> None:  # noqa: FBT001 - a condition and its refusal
    if not holds:
        raise ProofInvalid(otherwise)
