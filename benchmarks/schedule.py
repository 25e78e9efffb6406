"""The schedule: which replicates are run in which call, on which device of which process, and when they are looked at.

Replicates `[0, n)` lie in `BLOCKS` blocks, whose edges `e_n(b)` are multiples of `GRAIN` near `n b / BLOCKS`. Since
`e_2n(2b) = e_n(b)`, the blocks of `n` replicates are pairs of neighbouring blocks of `2 n`, and a run that doubles has
at every look the blocks of a run of that length. `GRAIN` is a multiple of what a program adds up in the precision of
the estimates, so that the same replicates are added up together however a run got to them.
"""

import itertools
import math
from typing import NamedTuple

from .moments import BLOCKS

# Edges of blocks are multiples of this, once blocks are long enough for it to make them unequal by a few per cent only.
GRAIN = 32
SHORTEST_GRAINED = 4 * GRAIN * BLOCKS
# Replicates whose mean is the centre of the power sums and of the squared distances. The spread of the latter is taken for
# that of distances from the mean, so the centre has to be much nearer to the mean than skewness times a deviation.
PILOT = 4096
# Calls that add up several blocks apart are at least so many to a device: several cores are to have some, and none the last for long.
PARTS = 4


class Share(NamedTuple):
    """What one device runs in one call: consecutive replicates, by the number of the block that the first is in, and the
    edges: where each block begins, and where the last one ends (or the share, if that is earlier)."""

    block: int
    edges: tuple[int, ...]

    @property
    def length(self) -> int:
        """How many replicates these are."""
        return self.edges[-1] - self.edges[0]


def edges(count: int) -> list[int]:
    """Where the blocks of `count` replicates begin, and where the last one ends.

    >>> edges(8192)[:3], edges(16384)[:5]
    ([0, 256, 512], [0, 512, 1024, 1536, 2048])
    """
    blocks, grain = min(BLOCKS, count), GRAIN if count >= SHORTEST_GRAINED else 1
    return [count // grain * block // blocks * grain for block in range(blocks)] + [count]


def looks(budget: int, fewest: int) -> list[int]:
    """The numbers of replicates after which a run of at most `budget` may stop: each is twice the one before.

    The first is at least `fewest` (or the budget, if that allows no doubling) and a multiple of `GRAIN`; the last
    leaves less than one part in `fewest / GRAIN` of the budget unused.

    >>> looks(20_000, fewest=4096), looks(5000, fewest=4096)
    ([4992, 9984, 19968], [5000])
    """
    doublings = max(int(math.log2(budget / fewest)), 0) if budget >= fewest else 0
    if doublings == 0:
        return [budget]
    first = budget // (GRAIN << doublings) * GRAIN
    return [first << doubling for doubling in range(doublings + 1)]


def calls(
    begin: int, end: int, capacity: int, devices: int, process: int = 0, processes: int = 1, apart: int = 1
) -> list[list[Share]]:
    """What one process does of running replicates `[begin, end)`, which are whole blocks of a run of `end`: for each call a
    share for each of its `devices`.

    A share is at most `capacity` long, of at most `apart` blocks, and short enough for every device of every process to have one.
    """
    bounds = [edge for edge in edges(end) if edge >= begin]
    block, spans = edges(end).index(begin), list(itertools.pairwise(bounds))
    whole = blocks_of_a_share(end, len(spans), capacity, apart, devices * processes)
    if whole > 1:
        shares = [Share(block + i, tuple(bounds[i : i + whole + 1])) for i in range(0, len(spans), whole)]
    else:
        pieces = math.ceil(devices * processes / len(spans))
        shares = [Share(block + i, piece) for i, span in enumerate(spans) for piece in _cut(*span, pieces, capacity)]
    own = [shares[i + process * devices :][:devices] for i in range(0, len(shares), devices * processes)]
    return [call for call in own if call]


def blocks_of_a_share(end: int, blocks: int, capacity: int, apart: int, parts: int = 1) -> int:
    """How many whole blocks one share has of `blocks` of a run of `end`, if there are `parts` to give shares to at once.

    >>> [blocks_of_a_share(end, 32, 65536, 32) for end in (1000, 20_000, 10**6, 10**9)]
    [1, 8, 2, 1]
    """
    if end < SHORTEST_GRAINED:
        return 1
    longest = math.ceil(end / BLOCKS) + GRAIN
    return max(min(apart, math.ceil(blocks / (PARTS * parts)), capacity // longest), 1)


def _cut(first: int, last: int, pieces: int, capacity: int) -> list[tuple[int, int]]:
    """A block in so many pieces or more, each at most `capacity` long."""
    length = min(capacity, math.ceil((last - first) / pieces / GRAIN) * GRAIN)
    return [(start, min(start + length, last)) for start in range(first, last, length)]
