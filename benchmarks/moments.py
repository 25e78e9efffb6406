"""Moments of many replicates, kept as sums on the host in float64.

With a fixed centre `c` near the mean, every moment is a sum over replicates of powers of `g - c`, and sums merge by
addition: exactly, in any order, over any chunks, devices or processes. The centre removes the cancellation that plain
power sums suffer. The sum of first powers is kept per block of consecutive replicates, because the covariance that an
honest error of the bias needs (`tr Sigma^2`, not only the diagonal) is seen in how block means scatter.
"""

from dataclasses import dataclass, field

import jax
import numpy as np
from jaxtyping import PyTree

# Enough blocks for a stable spread between them, few enough that wide gradients fit in memory.
BLOCKS = 32
# The tail kept for the Pareto diagnostic is that of 3 sqrt(n) replicates, and never longer than this.
LONGEST_TAIL = 10_000


@dataclass
class Moments:
    """Sums over replicates of the powers of `g - centre`, leaf by leaf.

    `counts` has one entry per block; `first` has leaves `[blocks, *leaf]`; `higher` holds the sums of squares and, if
    asked for, of third and fourth powers, with leaves `[*leaf]`.
    """

    centre: PyTree
    counts: np.ndarray
    first: PyTree
    higher: tuple[PyTree, ...]

    @staticmethod
    def zero(centre: PyTree, order: int = 2) -> "Moments":
        """No replicates yet; `order` is the highest power kept, 2 or 4."""
        centre = jax.tree.map(lambda c: np.asarray(c, np.float64), centre)
        first = jax.tree.map(lambda c: np.zeros((BLOCKS, *c.shape)), centre)
        return Moments(
            centre, np.zeros(BLOCKS, int), first, tuple(jax.tree.map(np.zeros_like, centre) for _ in range(order - 1))
        )

    def add(self, block: int, count: int, powers: tuple[PyTree, ...]) -> None:
        """Add to `block` the sums of the first, second, ... powers of `g - centre` over `count` replicates."""
        self.counts[block] += count
        jax.tree.map(lambda total, part: np.add(total[block], part, out=total[block, ...]), self.first, powers[0])
        for total, part in zip(self.higher, powers[1:], strict=True):
            jax.tree.map(lambda t, p: np.add(t, p, out=t), total, part)

    @property
    def count(self) -> int:
        """The number of replicates."""
        return int(self.counts.sum())

    @property
    def offset(self) -> PyTree:
        """The mean of `g - centre`."""
        return jax.tree.map(lambda total: total.sum(axis=0) / self.count, self.first)

    @property
    def mean(self) -> PyTree:
        """The mean, per coordinate."""
        return jax.tree.map(np.add, self.centre, self.offset)

    @property
    def variance(self) -> PyTree:
        """The sample variance (divisor `count - 1`), per coordinate; zeros for a single replicate."""
        scale = 1 / max(self.count - 1, 1)
        return jax.tree.map(
            lambda square, m: np.maximum(square - self.count * m**2, 0) * scale, self.higher[0], self.offset
        )

    @property
    def fourth(self) -> PyTree | None:
        """The fourth central moment (divisor `count`), per coordinate; `None` if the powers were not kept."""
        if len(self.higher) < 3:
            return None

        def central(m, square, cube, fourth):
            return (fourth - 4 * m * cube + 6 * m**2 * square) / self.count - 3 * m**4

        return jax.tree.map(central, self.offset, *self.higher)

    def block_means(self) -> PyTree:
        """The means of `g - centre` in the blocks that hold replicates, with leaves `[blocks, *leaf]`."""
        used = self.counts > 0
        return jax.tree.map(
            lambda total: total[used] / self.counts[used].reshape(-1, *(1 for _ in total.shape[1:])), self.first
        )


@dataclass
class Spread:
    """What is kept of the scalars of each replicate of one part of the gradient.

    The squared distance `q` from the centre: its first two power sums (per block), and its largest values; and the
    cosine with the truth.
    """

    counts: np.ndarray = field(default_factory=lambda: np.zeros(BLOCKS, int))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(BLOCKS))
    fourths: float = 0.0
    tail: np.ndarray = field(default_factory=lambda: np.zeros(0))
    cosine: float = 0.0
    aligned: int = 0

    def add(self, block: int, squared_distance: np.ndarray, cosine: np.ndarray) -> None:
        """Add replicates `[n]` of one block; `cosine` is NaN where the truth is unknown or zero."""
        q = squared_distance.astype(np.float64)
        self.counts[block] += len(q)
        self.squares[block] += q.sum()
        self.fourths += np.sum(q**2)
        longest = min(int(np.ceil(3 * np.sqrt(self.count))), LONGEST_TAIL) + 1
        tail = np.concatenate([self.tail, q])
        self.tail = tail if len(tail) <= longest else np.partition(tail, len(tail) - longest)[-longest:]
        self.cosine += cosine.sum(dtype=np.float64)
        self.aligned += int(np.sum(cosine > 0))

    @property
    def count(self) -> int:
        """The number of replicates."""
        return int(self.counts.sum())
