"""The stored tree: complete tiles as they were written, its right edge from the leaves."""

from collections.abc import Sequence

from audit.merkle import HASH_BYTES, root_of
from audit.models import Leaf, Tile

HEIGHT = 8
WIDTH = 1 << HEIGHT


class StoredTree:
    """The tree of the first `size` leaves. Reads each tile that it needs once."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._tiles: dict[tuple[int, int], list[bytes]] = {}

    def hash_at(self, level: int, index: int) -> bytes:
        """See `audit.merkle.Subtrees`."""
        tile_level, rest = divmod(level, HEIGHT)
        start = index << rest
        tile = self.tile(tile_level, start // WIDTH)
        offset = start % WIDTH
        return root_of(tile[offset : offset + (1 << rest)])

    def tile(self, level: int, index: int) -> list[bytes]:
        """The hashes of a tile; as many as there are complete subtrees for it."""
        known = self._tiles.get((level, index))
        if known is None:
            known = self._read(level, index)
            self._tiles[level, index] = known
        return known

    def _read(self, level: int, index: int) -> list[bytes]:
        below = WIDTH ** (level + 1)
        if (index + 1) * below <= self.size:
            stored = Tile.objects.filter(level=level, index=index).values_list("hashes", flat=True)
            for hashes in stored:
                return split_hashes(bytes(hashes))
        first = index * WIDTH
        complete = min(first + WIDTH, self.size // WIDTH**level)
        if level:
            return self._roots_below(level, first, complete)
        leaves = Leaf.objects.filter(seq__gte=first, seq__lt=complete).order_by("seq")
        return [bytes(one) for one in leaves.values_list("hash", flat=True)]

    def _roots_below(self, level: int, first: int, complete: int) -> list[bytes]:
        """The hashes `first` to `complete` of a row, from the complete tiles of the row below."""
        stored = Tile.objects.filter(level=level - 1, index__gte=first, index__lt=complete)
        roots = {index: bytes(root) for index, root in stored.values_list("index", "root")}
        missing = [place for place in range(first, complete) if place not in roots]
        for place in missing:
            roots[place] = root_of(self.tile(level - 1, place))
        return [roots[place] for place in range(first, complete)]


def tile_of(level: int, index: int, hashes: Sequence[bytes]) -> Tile:
    """A complete tile, not yet written."""
    return Tile(level=level, index=index, hashes=b"".join(hashes), root=root_of(hashes))


def split_hashes(hashes: bytes) -> list[bytes]:
    return [hashes[at : at + HASH_BYTES] for at in range(0, len(hashes), HASH_BYTES)]
