"""The tree against published vectors and against itself."""

import base64
import json
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit import merkle
from audit.merkle import ProofInvalid
from tests.audit.merkle_trees import Grown

VECTORS: dict[str, dict[str, Any]] = json.loads(
    (Path(__file__).parent / "vectors" / "merkle.json").read_text()
)
SIZES = st.integers(1, 70)


def plain(text: str | None) -> bytes:
    return base64.b64decode(text or "")


def steps(vector: Any) -> list[bytes]:
    return [plain(one) for one in vector["proof"] or []]


@pytest.mark.parametrize("name", VECTORS["inclusion"])
def test_inclusion_as_published(name: str) -> None:
    case = VECTORS["inclusion"][name]
    given_ = (plain(case["leafHash"]), case["leafIdx"], case["treeSize"], plain(case["root"]))
    if case["wantErr"]:
        with pytest.raises(ProofInvalid):
            merkle.check_inclusion(*given_, proof=steps(case))
    else:
        merkle.check_inclusion(*given_, proof=steps(case))


@pytest.mark.parametrize("name", VECTORS["consistency"])
def test_consistency_as_published(name: str) -> None:
    case = VECTORS["consistency"][name]
    given_ = (case["size1"], case["size2"], plain(case["root1"]), plain(case["root2"]))
    if case["wantErr"]:
        with pytest.raises(ProofInvalid):
            merkle.check_consistency(*given_, proof=steps(case))
    else:
        merkle.check_consistency(*given_, proof=steps(case))


def test_there_are_as_many_vectors_as_were_published() -> None:
    assert {kind: len(found) for kind, found in VECTORS.items()} == {
        "inclusion": 98,
        "consistency": 98,
    }


def test_the_roots_of_rfc_6962() -> None:
    """The reference tree of the RFC's authors, by size."""
    entries = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    entries.append("606162636465666768696a6b6c6d6e6f")
    tree = Grown([bytes.fromhex(one) for one in entries])
    roots = {0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
    roots[1] = "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    roots[2] = "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"
    roots[8] = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
    assert {size: merkle.root(tree, size).hex() for size in roots} == roots


@given(SIZES, st.data())
def test_what_is_proved_is_accepted_for_its_own_leaf_alone(size: int, data: st.DataObject) -> None:
    tree = Grown([b"%d" % n for n in range(size)])
    index = data.draw(st.integers(0, size - 1))
    proof, root = merkle.inclusion_proof(tree, index, size), merkle.root(tree, size)
    merkle.check_inclusion(tree.leaves[index], index, size, root, proof=proof)
    wrong = [
        (tree.leaves[index - 1] if size > 1 else b"x" * 32, index, size, root, proof),
        (tree.leaves[index], index + 1, size, root, proof),
        (tree.leaves[index], index, size, merkle.leaf_hash(root), proof),
        (tree.leaves[index], index, size, root, [*proof, root]),
        (tree.leaves[index], index, size, root, proof[:-1] or [root]),
    ]
    for leaf, at, of, end, path in wrong:
        with pytest.raises(ProofInvalid):
            merkle.check_inclusion(leaf, at, of, end, proof=path)


@given(SIZES, st.data())
def test_a_tree_is_the_beginning_of_a_later_one(size: int, data: st.DataObject) -> None:
    tree = Grown([b"%d" % n for n in range(size)])
    old = data.draw(st.integers(1, size))
    proof = merkle.consistency_proof(tree, old, size)
    roots = merkle.root(tree, old), merkle.root(tree, size)
    merkle.check_consistency(old, size, *roots, proof=proof)
    with pytest.raises(ProofInvalid):
        merkle.check_consistency(old, size, merkle.leaf_hash(roots[0]), roots[1], proof=proof)
    with pytest.raises(ProofInvalid):
        merkle.check_consistency(old, size, roots[0], merkle.leaf_hash(roots[1]), proof=proof)
    with pytest.raises(ProofInvalid):
        merkle.check_consistency(old, size, *roots, proof=[*proof, roots[0]])


def test_nothing_is_consistent_with_an_empty_tree() -> None:
    tree = Grown([b"a"])
    with pytest.raises(ProofInvalid):
        merkle.consistency_proof(tree, 0, 1)
    with pytest.raises(ProofInvalid):
        merkle.check_consistency(0, 1, merkle.EMPTY_ROOT, merkle.root(tree, 1), proof=[])


@given(SIZES, st.data())
def test_a_range_is_whole_or_refused(size: int, data: st.DataObject) -> None:
    tree = Grown([b"%d" % n for n in range(size)])
    start = data.draw(st.integers(0, size - 1))
    end = data.draw(st.integers(start + 1, size))
    proof, root = merkle.range_proof(tree, start, end, size), merkle.root(tree, size)
    leaves = tree.leaves[start:end]
    merkle.check_range(leaves, start, size, root, proof=proof)
    place = data.draw(st.integers(0, len(leaves) - 1))
    left_out = leaves[:place] + leaves[place + 1 :]
    added = [*leaves[:place], merkle.leaf_hash(b"new"), *leaves[place:]]
    changed = [*leaves[:place], merkle.leaf_hash(b"new"), *leaves[place + 1 :]]
    for wrong in (left_out, added, changed):
        with pytest.raises(ProofInvalid):
            merkle.check_range(wrong, start, size, root, proof=proof)
    with pytest.raises(ProofInvalid):
        merkle.check_range(leaves, start, size, root, proof=[*proof, root])


@given(st.integers(0, 300))
def test_the_root_is_the_same_by_rows_and_by_recursion(size: int) -> None:
    tree = Grown([random.Random(n).randbytes(3) for n in range(size)])
    assert merkle.root(tree, size) == merkle.root_of(tree.leaves)
