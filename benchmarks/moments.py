"""Moments of many replicates, kept as sums on the host in float64.

With a fixed centre `c` near the mean, every moment is a sum over replicates of powers of `g - c`, and sums merge by
addition: exactly, in any order, over any chunks, devices or processes. The centre removes the cancellation that plain
power sums suffer. The sum of first powers is kept per block of consecutive replicates, because the covariance that an
honest error of the bias needs (`tr Sigma^2`, not only the diagonal) is seen in how block means scatter.

A gradient is one vector here, its leaves one after the other; `measurement` gives it back its structure.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float, Int

# Enough blocks for a stable spread between them, few enough that wide gradients fit in memory.
BLOCKS = 32
# The tail kept for the Pareto diagnostic is that of 3 sqrt(n) replicates, and never longer than this.
LONGEST_TAIL = 10_000

Vector = Float[np.ndarray, "coordinates"]


@dataclass
class Moments:
    """Sums over replicates of the powers of `g - centre`: the first per block, the others in total."""

    centre: Vector
    counts: Int[np.ndarray, "blocks"]
    first: Float[np.ndarray, "blocks coordinates"]
    higher: Float[np.ndarray, "powers coordinates"]

    @staticmethod
    def zero(centre: Vector, order: int = 2) -> "Moments":
        """No replicates yet; `order` is the highest power kept, 2 or 4."""
        size = len(centre)
        return Moments(centre, np.zeros(BLOCKS, int), np.zeros((BLOCKS, size)), np.zeros((order - 1, size)))

    def plus(self, other: "Moments") -> "Moments":
        """The moments of the replicates of both, which have one centre."""
        sums = ((getattr(self, name), getattr(other, name)) for name in ("counts", "first", "higher"))
        return Moments(self.centre, *(mine + theirs for mine, theirs in sums))

    def halved(self) -> "Moments":
        """The same replicates in half of the blocks, each made of two neighbours."""
        return Moments(self.centre, _paired(self.counts), _paired(self.first), self.higher)

    def add(
        self,
        block: int,
        counts: Sequence[int] | Int[np.ndarray, "some"],
        first: Float[np.ndarray, "some coordinates"],
        higher: Float[np.ndarray, "powers coordinates"],
    ) -> None:
        """Add to some blocks, from `block` on, the sums of `g - centre` over so many replicates of each; `higher` are the sums of the
        higher powers over all of these."""
        blocks = slice(block, block + len(counts))
        self.counts[blocks] += counts
        self.first[blocks] += first
        self.higher += higher

    @property
    def count(self) -> int:
        """The number of replicates."""
        return int(self.counts.sum())

    @property
    def offset(self) -> Vector:
        """The mean of `g - centre`."""
        return self.first.sum(axis=0) / self.count

    @property
    def mean(self) -> Vector:
        """The mean, per coordinate."""
        return self.centre + self.offset

    @property
    def variance(self) -> Vector:
        """The sample variance (divisor `count - 1`), per coordinate; zeros for a single replicate."""
        return np.maximum(self.higher[0] - self.count * self.offset**2, 0) / max(self.count - 1, 1)

    @property
    def third(self) -> Vector | None:
        """The third central moment (divisor `count`), per coordinate; `None` if the powers were not kept."""
        if len(self.higher) < 3:
            return None
        square, cube, _ = self.higher / self.count
        return cube - 3 * self.offset * square + 2 * self.offset**3

    @property
    def fourth(self) -> Vector | None:
        """The fourth central moment (divisor `count`), per coordinate; `None` if the powers were not kept."""
        if len(self.higher) < 3:
            return None
        square, cube, fourth = self.higher / self.count
        return fourth - 4 * self.offset * cube + 6 * self.offset**2 * square - 3 * self.offset**4

    def block_means(self) -> Float[np.ndarray, "blocks coordinates"]:
        """The means of `g - centre` in the blocks that hold replicates."""
        used = self.counts > 0
        return self.first[used] / self.counts[used, None]


@dataclass
class Spread:
    """What is kept of the scalars of each replicate of one part of the gradient.

    The squared distance `q` from the centre: its first power sum per block, its second, and its `longest` largest
    values; and the cosine with the truth.
    """

    longest: int = LONGEST_TAIL + 1
    counts: Int[np.ndarray, "blocks"] = field(default_factory=lambda: np.zeros(BLOCKS, int))
    squares: Float[np.ndarray, "blocks"] = field(default_factory=lambda: np.zeros(BLOCKS))
    fourths: float = 0.0
    largest: Float[np.ndarray, "kept"] = field(default_factory=lambda: np.zeros(0))
    cosine: float = 0.0
    aligned: int = 0

    def add(
        self,
        block: int,
        counts: Sequence[int] | Int[np.ndarray, "some"],
        squared_distance: np.ndarray,
        cosine: np.ndarray,
    ) -> None:
        """Add replicates `[n]` of some blocks, from `block` on, that have so many each; `cosine` is NaN where the truth is unknown or
        zero."""
        q = squared_distance.astype(np.float64)
        blocks = slice(block, block + len(counts))
        self.counts[blocks] += counts
        self.squares[blocks] += [piece.sum() for piece in np.split(q, np.cumsum(counts)[:-1])]
        self.fourths += float(np.sum(q**2))
        self.largest = largest(np.concatenate([self.largest, q]), self.longest)
        self.cosine += float(cosine.sum(dtype=np.float64))
        self.aligned += int(np.sum(cosine > 0))

    def plus(self, other: "Spread") -> "Spread":
        """The spread of the replicates of both."""
        names = ("counts", "squares", "fourths", "cosine", "aligned")
        sums = {name: getattr(self, name) + getattr(other, name) for name in names}
        tail = largest(np.concatenate([self.largest, other.largest]), self.longest)
        return Spread(longest=self.longest, largest=tail, **sums)

    def halved(self) -> "Spread":
        """The same replicates in half of the blocks, each made of two neighbours."""
        return replace(self, counts=_paired(self.counts), squares=_paired(self.squares))

    @property
    def count(self) -> int:
        """The number of replicates."""
        return int(self.counts.sum())

    @property
    def tail(self) -> Float[np.ndarray, "largest"]:
        """The largest squared distances, as many as the Pareto diagnostic takes and the one below them."""
        return largest(self.largest, tail_length(self.count))


def tail_length(count: int) -> int:
    """How many of the largest squared distances of `count` replicates the Pareto diagnostic needs."""
    return min(math.ceil(3 * math.sqrt(count)), LONGEST_TAIL) + 1


def largest(values: Float[np.ndarray, "values"], number: int) -> Float[np.ndarray, "kept"]:
    """The `number` largest values, or all if there are fewer, in any order."""
    return values if len(values) <= number else np.partition(values, len(values) - number)[-number:]


def _paired(blocks: np.ndarray) -> np.ndarray:
    """Sums of neighbouring pairs along the first axis, followed by as many zeros."""
    sums = blocks[::2] + blocks[1::2]
    return np.concatenate([sums, np.zeros_like(sums)])
