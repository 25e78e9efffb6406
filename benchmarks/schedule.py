"""The schedule: which replicates are run in which call, on which device of which process, and when they are looked at.

Replicates `[0, n)` lie in `BLOCKS` blocks, whose edges `e_n(b)` are multiples of `GRAIN` near `n b / BLOCKS`. Since
`e_2n(2b) = e_n(b)`, the blocks of `n` replicates are pairs of neighbouring blocks of `2 n`, and a run that doubles has
at every look the blocks of a run of that length. `GRAIN` is a multiple of what a program adds up in the precision of
the estimates, so that the same replicates are added up together however a run got to them.
"""

import math

from .moments import BLOCKS

# Edges of blocks are multiples of this, once blocks are long enough for it to make them unequal by a few per cent only.
GRAIN = 32
SHORTEST_GRAINED = 4 * GRAIN * BLOCKS
# Replicates whose mean is the centre of the power sums and of the squared distances. The spread of the latter is taken for
# that of distances from the mean, so the centre has to be much nearer to the mean than skewness times a deviation.
PILOT = 4096

Span = tuple[int, int]


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
    begin: int, end: int, capacity: int, devices: int, process: int = 0, processes: int = 1
) -> list[list[tuple[int, Span]]]:
    """The share of one process in running replicates `[begin, end)`, which are whole blocks of a run of `end`: for each
    call a list of `(block, (first, last))`, one for each of its `devices`.

    A span is at most `capacity` long, and short enough for every device of every process to have one.
    """
    bounds = edges(end)
    blocks = [(block, span) for block, span in enumerate(zip(bounds[:-1], bounds[1:], strict=True)) if span[0] >= begin]
    pieces = math.ceil(devices * processes / max(len(blocks), 1))
    spans = []
    for block, (first, last) in blocks:
        length = min(capacity, math.ceil((last - first) / pieces / GRAIN) * GRAIN)
        spans += [(block, (start, min(start + length, last))) for start in range(first, last, max(length, 1))]
    own = [spans[i + process * devices :][:devices] for i in range(0, len(spans), devices * processes)]
    return [call for call in own if call]
